"""Measures the demo model and dictionary: losses, what the features stand for, and what steering with them does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from .corpus import document, is_french, labelled_lines, prompts, tone_score
from .residual import collect_residuals, residual_hook, sample
from .scores import words
from .train_lm import held_out_rows, mean_loss
from .train_sae import TopKSAE

STRENGTHS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85)
TRAITS = {"french": ("language", "french", "english"), "warm": ("tone", "warm", "hostile")}
OPPOSITES = {"french": "english", "warm": "hostile", "hostile": "warm"}
SAMPLE_ROWS = 8
NUM_PROMPTS = 32

Edits = dict[int, float]  # weight of each feature's decoder row


@dataclass(frozen=True)
class Bench:
    """What every measurement needs; `norm` is the mean residual norm on held-out text, the unit of STRENGTHS."""

    model: Qwen2ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    sae: TopKSAE
    norm: float
    pairs: frozenset[tuple[str, str]]


def known_pairs(num_documents: int = 20_000) -> frozenset[tuple[str, str]]:
    """Adjacent word pairs of training documents."""
    pairs: set[tuple[str, str]] = set()
    for i in range(num_documents):
        found = words(document("train", i).text)
        pairs.update(zip(found, found[1:], strict=False))
    return frozenset(pairs)


def readability(text: str, pairs: frozenset[tuple[str, str]]) -> float:
    """Share of adjacent word pairs that training text has; 1 for a line of one word, 0 for an empty line."""
    found = words(text)
    if len(found) < 2:
        return float(bool(found))
    return float(np.mean([pair in pairs for pair in zip(found, found[1:], strict=False)]))


def measure_lm(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, num_rows: int = 64) -> dict[str, float]:
    """Held-out loss in nats a token, on all rows and on the few that a test repeats."""
    rows = held_out_rows(tokenizer, num_rows)
    loss = mean_loss(model, rows)
    return {
        "held_out_loss": loss,
        "held_out_perplexity": float(np.exp(loss)),
        "held_out_tokens": rows.numel(),
        "sample_rows": SAMPLE_ROWS,
        "sample_loss": mean_loss(model, rows[:SAMPLE_ROWS]),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def variance_explained(sae: TopKSAE, x: Tensor) -> float:
    """1 - squared reconstruction error / squared distance from the mean, over residuals [num_tokens, d_model]."""
    error = (x - sae.decode(sae.encode(x))).square().sum()
    return float(1 - error / (x - x.mean(0)).square().sum())


@torch.no_grad()
def measure_sae(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, sae: TopKSAE, num_documents: int = 600
) -> dict[str, float]:
    """Reconstruction on held-out text, and the loss when it, or the mean, stands in for the residual."""
    x = collect_residuals(model, tokenizer, [document("heldout", i).text for i in range(num_documents)])
    f = torch.cat([sae.encode(part) for part in x.split(4096)])
    rows, mean = held_out_rows(tokenizer, 32), x.mean(0)

    def keep_first(edited: Tensor, original: Tensor) -> Tensor:
        return torch.cat([original[:, :1], edited[:, 1:]], dim=1)

    with residual_hook(model, lambda h: keep_first(sae.decode(sae.encode(h)), h)):
        spliced = mean_loss(model, rows)
    with residual_hook(model, lambda h: keep_first(mean.expand_as(h), h)):
        ablated = mean_loss(model, rows)
    clean = mean_loss(model, rows)
    sample_x = x[: min(len(x), 4000)]
    return {
        "variance_explained": variance_explained(sae, x),
        "sample_tokens": len(sample_x),
        "sample_variance_explained": variance_explained(sae, sample_x),
        "l0": float((f > 0).sum(-1).float().mean()),
        "dead_share": float((f == 0).all(0).float().mean()),
        "held_out_tokens": len(x),
        "loss_clean": clean,
        "loss_reconstruction": spliced,
        "loss_mean_ablation": ablated,
        "loss_recovered": (ablated - spliced) / (ablated - clean),
        "residual_norm": float(x.norm(dim=-1).mean()),
    }


@torch.no_grad()
def line_activations(bench: Bench, lines: list[str]) -> np.ndarray:
    """Mean activation of every feature over each line's tokens after the first, [num_lines, d_sae]."""
    found: list[Tensor] = []
    with residual_hook(bench.model, found.append):
        for line in lines:
            bench.model.model(input_ids=bench.tokenizer(line, return_tensors="pt")["input_ids"], use_cache=False)
            found[-1] = bench.sae.encode(found[-1][0, 1:]).mean(0)
    return torch.stack(found).numpy()


def auroc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Chance that a positive line scores above a negative one, ties counted half; scores [n, d_sae], positive [n]."""
    ranks = rankdata(scores, axis=0)
    num_pos, num_neg = positive.sum(), (~positive).sum()
    return (ranks[positive].sum(0) - num_pos * (num_pos + 1) / 2) / (num_pos * num_neg)


def top_features(bench: Bench, num_lines: int = 600, num_top: int = 8) -> dict[str, list[dict[str, float]]]:
    """For each trait value the features that separate it best, half of them by AUROC, half by mean difference."""
    lines = labelled_lines(num_lines, seed=1)
    f = line_activations(bench, [line["text"] for line in lines])
    found = {}
    for key, positive, negative in TRAITS.values():
        chosen = np.array([line[key] in (positive, negative) for line in lines])
        is_positive = np.array([line[key] == positive for line in lines])[chosen]
        score = auroc(f[chosen], is_positive)
        gap = f[chosen][is_positive].mean(0) - f[chosen][~is_positive].mean(0)
        for name, sign in ((positive, 1), (negative, -1)):
            half = np.argsort(-sign * gap)[: num_top // 2]
            by_auroc = [i for i in np.argsort(-sign * score) if i not in half][: num_top - len(half)]
            found[name] = [
                {
                    "id": int(i),
                    "auroc": float(score[i] if sign > 0 else 1 - score[i]),
                    "mean_difference": float(sign * gap[i]),
                    "max_line_mean": float(f[:, i].max()),
                }
                for i in sorted([*half, *by_auroc], key=lambda i: -sign * score[i])
            ]
    return found


def steered_replies(bench: Bench, edits: Edits, strength: float, asked: list[str], seed: int = 0) -> list[str]:
    """Replies at temperature 0.7 with `strength * norm * sum of weight * W_dec[feature]` added at every position."""
    weights = torch.tensor(list(edits.values()))
    delta = strength * bench.norm * bench.sae.decoder.weight[:, list(edits)] @ weights
    with torch.no_grad(), residual_hook(bench.model, lambda x: x + delta if strength else None):
        return sample(bench.model, bench.tokenizer, asked, max_new_tokens=48, seed=seed)


def spoken(reply: str) -> str:
    """The words of a reply: the argument of an episode's JSON as far as it got, or the whole chat line."""
    return reply.split('"argument": "', 1)[-1].rstrip('"} \n')


def steering_point(bench: Bench, edits: Edits, strength: float, asked: list[str], seed: int = 0) -> dict[str, Any]:
    """Share of French lines, mean tone and readability of the replies at one strength."""
    lines = [spoken(reply) for reply in steered_replies(bench, edits, strength, asked, seed)]
    return {
        "strength": strength,
        "alpha": strength * bench.norm,
        "french": float(np.mean([is_french(line) for line in lines])),
        "tone": float(np.mean([tone_score(line) for line in lines])),
        "readability": float(np.mean([readability(line, bench.pairs) for line in lines])),
        "examples": lines[:4],
    }


def _gain(point: dict[str, Any], trait: str) -> float:
    value = {"french": point["french"], "warm": point["tone"], "hostile": -point["tone"]}[trait]
    return value * point["readability"] ** 2


def _groups(ranked: list[int], opposed: list[int]) -> list[Edits]:
    """Groups of two or three features worth trying: the best ones together, also against the opposite's best."""
    first, second, third = ranked[:3]
    return [
        {first: 1.0, second: 1.0},
        {first: 1.0, second: 1.0, third: 1.0},
        *({first: 1.0, other: -1.0} for other in opposed[:3]),
        *({first: 1.0, second: 1.0, other: -1.0} for other in opposed[:2]),
    ]


def steering(bench: Bench, top: dict[str, list[dict[str, float]]], num_prompts: int = NUM_PROMPTS) -> dict[str, Any]:
    """Full strength curves of the best single feature and of the best group of two or three, for each trait."""
    asked = prompts("heldout", range(num_prompts))
    choosing = prompts("heldout", range(num_prompts, num_prompts + 8))
    result: dict[str, Any] = {}
    for trait, opposite in OPPOSITES.items():

        def best_gain(edits: Edits, trait: str = trait) -> float:
            scale = len(edits) ** -0.5
            return max(_gain(steering_point(bench, edits, s * scale, choosing), trait) for s in (0.25, 0.35, 0.5))

        candidates = [int(feature["id"]) for feature in top[trait]]
        ranked = sorted(candidates, key=lambda i: -best_gain({i: 1.0}))
        opposed = [int(feature["id"]) for feature in top[opposite]]
        chosen = {"single": {ranked[0]: 1.0}, "group": max(_groups(ranked, opposed), key=best_gain)}
        result[trait] = {
            name: {
                "edits": edits,
                "points": [steering_point(bench, edits, s * len(edits) ** -0.5, asked) for s in STRENGTHS],
            }
            for name, edits in chosen.items()
        }
    return result
