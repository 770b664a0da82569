"""Trains the demo dictionary: a per-token TopK SAE on resid_post of layer 15, saved in dictionary_learning's format.

Recipe as in Gao et al. 2024 (arXiv:2406.04093): tied initialisation, unit-norm decoder rows, an auxiliary loss in which
features that have long been silent explain what the others left over. As in Matryoshka SAEs (Bussmann et al. 2025,
arXiv:2503.17547) the first features must reconstruct by themselves too, so they stay general (a language, a tone) and
do not split into one feature for each word.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from tiller.engine.sae.loader import max_act_path

from .corpus import document, prompts
from .residual import LAYER, sample


@dataclass(frozen=True)
class SAEConfig:
    """Sizes and schedule; tokens are activations, `dead_after` the tokens without firing that make a feature dead."""

    d_sae: int = 1024
    k: int = 16
    prefixes: tuple[int, ...] = (32, 128, 1024)
    num_documents: int = 2500
    num_samples: int = 384
    num_steps: int = 3000
    batch_size: int = 1024
    learning_rate: float = 1e-3
    k_aux: int = 32
    aux_weight: float = 1 / 32
    dead_after: int = 200_000
    seed: int = 0


class TopKSAE(nn.Module):
    """f = topk(relu(W_enc (x - b_dec) + b_enc)), decode(f) = W_dec f + b_dec; named like the files it is saved to."""

    k: Tensor
    threshold: Tensor

    def __init__(self, d_model: int, d_sae: int, k: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(d_model, d_sae)
        self.decoder = nn.Linear(d_sae, d_model, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("k", torch.tensor(k, dtype=torch.int32))
        self.register_buffer("threshold", torch.tensor(-1.0))
        self.num_active = k
        with torch.no_grad():
            self.decoder.weight.copy_(nn.functional.normalize(torch.randn(d_model, d_sae), dim=0))
            self.encoder.weight.copy_(self.decoder.weight.T)
            self.encoder.bias.zero_()

    def pre_activations(self, x: Tensor) -> Tensor:
        """relu(W_enc (x - b_dec) + b_enc), [..., d_sae]."""
        return torch.relu(self.encoder(x - self.b_dec))

    def encode(self, x: Tensor) -> Tensor:
        """Feature activations [..., d_sae], at most k of them above zero."""
        return keep_top(self.pre_activations(x), self.num_active)

    def decode(self, f: Tensor) -> Tensor:
        """Reconstruction [..., d_model]."""
        return self.decoder(f) + self.b_dec

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Makes every decoder row a unit vector and takes the gradient along it away."""
        weight = self.decoder.weight
        weight.div_(weight.norm(dim=0, keepdim=True))
        if weight.grad is not None:
            weight.grad.sub_((weight.grad * weight).sum(0, keepdim=True) * weight)


def keep_top(f: Tensor, k: int) -> Tensor:
    """`f` with all but the k largest entries of each row set to zero."""
    top = f.topk(k, dim=-1)
    return torch.zeros_like(f).scatter(-1, top.indices, top.values)


def training_texts(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, config: SAEConfig) -> list[str]:
    """Held-in documents and the model's own replies to held-in prompts."""
    texts = [document("train", i).text for i in range(config.num_documents)]
    for start in tqdm(range(0, config.num_samples, 128), desc="samples"):
        asked = prompts("train", range(start, min(start + 128, config.num_samples)))
        texts += [p + reply for p, reply in zip(asked, sample(model, tokenizer, asked, 50, 1.0, start), strict=True)]
    return texts


def train_sae(residuals: Tensor, config: SAEConfig) -> tuple[TopKSAE, dict[str, float]]:
    """The dictionary of `residuals` [num_tokens, d_model], in their own scale, and {tokens, steps, seconds}."""
    torch.manual_seed(config.seed)
    started = time.monotonic()
    scale = float(residuals.norm(dim=-1).mean()) / residuals.shape[1] ** 0.5
    data = residuals / scale
    sae = TopKSAE(data.shape[1], config.d_sae, config.k)
    sae.b_dec.data = data.mean(0)
    optimizer = torch.optim.Adam(sae.parameters(), lr=config.learning_rate, betas=(0.9, 0.999))
    silent = torch.zeros(config.d_sae)
    progress = tqdm(range(config.num_steps), desc="SAE")
    for step in progress:
        optimizer.param_groups[0]["lr"] = config.learning_rate * min(1.0, 3 * (1 - step / config.num_steps))
        x = data[torch.randint(len(data), (config.batch_size,))]
        loss, active = _loss(sae, x, silent >= config.dead_after, config)
        silent = torch.where(active, 0.0, silent + config.batch_size)
        optimizer.zero_grad()
        loss.backward()
        sae.normalize_decoder()
        optimizer.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{float(loss.detach()):.4f}", dead=int((silent >= config.dead_after).sum()))
    sae.normalize_decoder()
    _fold_scale(sae, scale, residuals[:20_000])
    return sae.eval(), {"tokens": len(data), "steps": config.num_steps, "seconds": time.monotonic() - started}


def _loss(sae: TopKSAE, x: Tensor, dead: Tensor, config: SAEConfig) -> tuple[Tensor, Tensor]:
    """Unexplained variance, mean over the prefixes, plus the auxiliary term; and which features fired [d_sae]."""
    pre = sae.pre_activations(x)
    f = keep_top(pre, config.k)
    error, loss, start = x - sae.b_dec, x.new_zeros(()), 0
    variance = (x - x.mean(0)).square().sum() * len(config.prefixes)
    for end in config.prefixes:
        error = error - f[:, start:end] @ sae.decoder.weight[:, start:end].T
        loss = loss + error.square().sum() / variance
        start = end
    if int(dead.sum()) >= config.k_aux:
        revived = sae.decoder(keep_top(pre * dead, config.k_aux))
        loss = loss + config.aux_weight * (error.detach() - revived).square().sum() / error.detach().square().sum()
    return loss, (f > 0).any(0)


@torch.no_grad()
def _fold_scale(sae: TopKSAE, scale: float, residuals: Tensor) -> None:
    """Carries the training scale into the biases and records the mean smallest active value as `threshold`."""
    sae.encoder.bias.mul_(scale)
    sae.b_dec.mul_(scale)
    smallest = sae.pre_activations(residuals).topk(sae.num_active, dim=-1).values[:, -1]
    sae.threshold = smallest[smallest > 0].mean()


def save_sae(sae: TopKSAE, folder: Path) -> None:
    """Writes ae.pt (a flat state dict) and config.json as dictionary_learning does."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: value.detach().clone() for name, value in sae.state_dict().items()}, folder / "ae.pt")
    d_sae, d_model = sae.encoder.weight.shape
    trainer = {
        "dict_class": "AutoEncoderTopK",
        "activation_dim": d_model,
        "dict_size": d_sae,
        "k": sae.num_active,
        "layer": LAYER,
        "lm_name": "tiller-demo",
        "submodule_name": f"resid_post_layer_{LAYER}",
    }
    config = {"trainer": trainer, "buffer": {"d_submodule": d_model, "io": "out", "ctx_len": 384}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


@torch.no_grad()
def save_statistics(sae: TopKSAE, residuals: Tensor, folder: Path) -> None:
    """Writes max_act and density of every feature [d_sae] on `residuals`, as `tiller features calibrate` would."""
    batches = [sae.encode(x) for x in residuals.split(8192)]
    max_act = torch.stack([f.max(0).values for f in batches]).max(0).values
    density = torch.stack([(f > 0).sum(0) for f in batches]).sum(0) / len(residuals)
    save_file({"max_act": max_act, "density": density}, max_act_path(folder))


def load_sae(folder: Path) -> TopKSAE:
    """The dictionary that `save_sae` wrote."""
    state = torch.load(folder / "ae.pt", weights_only=True)
    d_sae, d_model = state["encoder.weight"].shape
    sae = TopKSAE(d_model, d_sae, int(state["k"]))
    sae.load_state_dict(state)
    return sae.eval()
