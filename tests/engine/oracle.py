"""What steering must do, said a second time: Hugging Face's model with a plain forward hook that applies DESIGN's formulas
token by token, dense, in float64. Shares no code with the engine but the files it reads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM


class OracleSAE:
    """saprmarks/dictionary_learning's own conventions, read straight from ae.pt."""

    def __init__(self, folder: Path) -> None:
        self.state = {k: v.double() for k, v in torch.load(folder / "ae.pt", weights_only=True).items()}
        self.kind = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
        names = ("b_dec", "bias", "decoder_bias")
        self.b_dec = next(self.state[name] for name in names if name in self.state)
        self.directions = self.state["decoder.weight"].T  # [F, d]

    def encode(self, x: Tensor) -> Tensor:
        s = self.state
        dots = s["encoder.weight"] @ (x - self.b_dec)
        if self.kind == "GatedAutoEncoder":
            return (dots + s["gate_bias"] > 0) * (s["r_mag"].exp() * dots + s["mag_bias"]).relu()
        f = (dots + s["encoder.bias"]).relu()
        if self.kind == "BatchTopKSAE":
            return f * (f > s["threshold"])
        if self.kind == "AutoEncoderTopK":
            keep = f.sort(descending=True, stable=True).indices[: int(s["k"])]
            return torch.zeros_like(f).index_copy(0, keep, f[keep])
        return f

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.directions + self.b_dec


def in_scope(spec: dict[str, Any], position: int, prompt_len: int) -> bool:
    where = spec.get("where", "all")
    if position < spec.get("skip_first", 0):
        return False
    if isinstance(where, dict):
        start, end = where.get("start", 0), where.get("end")
        start = start if start >= 0 else max(0, prompt_len + start)
        end = 10**9 if end is None else end if end >= 0 else max(0, prompt_len + end)
        return start <= position < end
    return {"all": True, "prompt": position < prompt_len, "generated": position >= prompt_len}[where]


def steer_token(x: Tensor, spec: dict[str, Any], saes: dict[str, OracleSAE], vectors: dict[str, Tensor]) -> Tensor:
    """x' [d] of one token; `saes` and `vectors` are those of this layer."""
    norm = x.norm()
    if norm > spec.get("max_norm", float("inf")):
        return x
    amount = {"raw": 1.0, "norm": norm}
    base, delta = x, torch.zeros_like(x)
    edits = [e for e in spec.get("features", []) if e.get("sae", "default") in saes]
    replaced = {e.get("sae", "default") for e in spec.get("features", [])} or {"default"}
    for name, sae in saes.items():
        f = sae.encode(x)
        new = f.clone()
        for edit in (e for e in edits if e.get("sae", "default") == name):
            i, when = edit["id"], edit.get("when")
            if when is not None and not f[when["feature"]] > when.get("above", 0.0):
                continue
            value = edit.get("value", 0.0) * amount[edit.get("unit", "raw")]
            new[i] = {
                "add": f[i] + value,
                "set": torch.as_tensor(value),
                "scale": f[i] * value,
                "min": torch.maximum(f[i], torch.as_tensor(value).double()),
                "max": torch.minimum(f[i], torch.as_tensor(value).double()),
                "ablate": torch.tensor(0.0),
            }[edit.get("op", "add")]
        if not spec.get("error_term", True) and name in replaced:
            base = sae.decode(new)
        else:
            delta = delta + (new - f) @ sae.directions
    for edit in (e for e in spec.get("vectors", []) if e["name"] in vectors):
        v = vectors[edit["name"]]
        unit, alpha = v / v.norm(), edit["alpha"] * amount[edit.get("unit", "raw")]
        along = x @ unit
        delta = (
            delta
            + {
                "add": alpha * v,
                "orthogonal": (alpha - 1) * along * unit,
                "cap": (torch.minimum(along, torch.as_tensor(alpha).double()) - along) * unit,
            }[edit.get("mode", "add")]
        )
    out = base + delta
    return out * norm / out.norm() if spec.get("norm") == "preserve" else out


class Oracle:
    """Log-probabilities [T, vocab] under steering of a whole sequence in one forward without a KV cache."""

    def __init__(self, model: Path, saes: dict[str, dict[str, Any]], vectors: dict[str, str], layer: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=torch.float32,
            attn_implementation="eager",  # the others leave out the soft cap of Gemma 2
        ).eval()
        self.saes = {
            at: {name: OracleSAE(Path(e["path"])) for name, e in saes.items() if e["layer"] == at}
            for at in {e["layer"] for e in saes.values()} | {layer}
        }
        self.vectors = {layer: {name: load_file(path)["vector"].double() for name, path in vectors.items()}}

    def layers(self) -> nn.ModuleList:
        base = self.model.base_model
        return base.h if hasattr(base, "h") else base.layers

    @torch.no_grad()
    def logprobs(self, tokens: list[int], spec: dict[str, Any] | None, prompt_len: int) -> Tensor:
        handles = [self._hook(layer, spec, prompt_len) for layer in self.saes] if spec else []
        try:
            return self.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def residual(self, tokens: list[int], layer: int) -> Tensor:
        """resid_post [T, d] of `layer`, unsteered."""
        seen: list[Tensor] = []
        handle = self.layers()[layer].register_forward_hook(lambda _m, _i, out: seen.append(_first(out)))
        self.model(torch.tensor([tokens]))
        handle.remove()
        return seen[0][0]

    @contextmanager
    def merged(self, adapter: Path | None) -> Iterator[None]:
        """With a PEFT adapter's product added to the weights it targets (scale 1), and taken off again."""
        state = load_file(adapter / "adapter_model.safetensors") if adapter else {}
        added = {}
        for name in (n for n in state if n.endswith("lora_A.weight")):
            module = self.model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            added[module] = module.weight.detach().clone()
            module.weight.data += state[name.replace("lora_A", "lora_B")] @ state[name]
        yield
        for module, weight in added.items():
            module.weight.data.copy_(weight)

    def _hook(self, layer: int, spec: dict[str, Any], prompt_len: int) -> Any:
        saes, vectors = self.saes[layer], self.vectors.get(layer, {})
        if not spec.get("error_term", True):
            named = {e.get("sae", "default") for e in spec.get("features", [])} or {"default"}
            touched = bool(named & saes.keys())
        else:
            touched = any(e.get("sae", "default") in saes for e in spec.get("features", []))
        if not touched and not any(e["name"] in vectors for e in spec.get("vectors", [])):
            return nn.Module().register_forward_hook(lambda *_: None)

        def edit(_module: nn.Module, _inputs: Any, out: Any) -> Any:
            x = _first(out)
            steered = x.clone()
            for position in range(x.shape[1]):
                if in_scope(spec, position, prompt_len):
                    steered[0, position] = steer_token(x[0, position].double(), spec, saes, vectors).to(x.dtype)
            return steered if isinstance(out, Tensor) else (steered, *out[1:])

        return self.layers()[layer].register_forward_hook(edit)


def _first(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def check_output(output: Any, oracle: Oracle, spec: dict[str, Any] | None, greedy: bool = True) -> bool:
    """Every completion's tokens are what Hugging Face would have said, log-probabilities within 1e-3, the receipt adds up.

    True if steering mattered, that is if the unsteered model would have given other probabilities.
    """
    ids, moved = output.prompt_token_ids, False
    for answer in output.outputs:
        tokens = [*ids, *answer.token_ids]
        expected = oracle.logprobs(tokens, spec, len(ids))[len(ids) - 1 : -1]
        plain = oracle.logprobs(tokens, None, len(ids))[len(ids) - 1 : -1]
        moved |= bool((plain - expected).abs().max() > 0.01)
        for step, token in enumerate(answer.token_ids):
            assert abs(answer.logprobs[step][token].logprob - float(expected[step, token])) < 1e-3, (spec, step)
            assert not greedy or float(expected[step].max() - expected[step, token]) < 1e-4, (spec, step)
        check_receipt(answer.steering, spec, len(ids), len(answer.token_ids), output.num_cached_tokens)
    return moved


def check_receipt(receipt: Any, spec: dict[str, Any] | None, prompt_len: int, num_out: int, num_cached: int) -> None:
    """The receipt counts the positions that DESIGN says are steered; the last sampled token never enters the model."""
    if spec is None:
        assert receipt is None
        return
    scope = [p for p in range(prompt_len + num_out - 1) if in_scope(spec, p, prompt_len)]
    assert receipt.tokens_in_scope == len(scope)
    assert receipt.tokens_steered + receipt.tokens_cached == receipt.tokens_in_scope
    assert receipt.tokens_cached == sum(p < num_cached for p in scope)
