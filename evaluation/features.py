"""What features do on texts: activations read through the engine itself, and how well they tell two groups apart."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csc_array, vstack
from tqdm import tqdm

from tiller.engine import SteeredLLM
from tiller.engine.sae.dictionary import num_readable

from .stats import Interval, auroc, auroc_interval

TEXTS_PER_CALL = 512
COLUMNS_PER_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Per text and feature, each [num_texts, d_sae]: mean and largest activation and the number of active tokens."""

    mean: csc_array
    peak: csc_array
    num_active: csc_array
    num_tokens: NDArray  # [num_texts] tokens that were read

    @property
    def active_features(self) -> NDArray:
        """Ids of the features that any token activates, ascending."""
        return np.flatnonzero(np.diff(self.mean.indptr))

    @property
    def density(self) -> NDArray:
        """Share of all tokens at which each feature is active, [d_sae]."""
        return np.asarray(self.num_active.sum(0)) / max(1, self.num_tokens.sum())

    @property
    def max_act(self) -> NDArray:
        """Largest activation of each feature, [d_sae]."""
        return self.peak.max(0).toarray().ravel()


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How one feature's mean activation over a text tells positive texts from negative ones."""

    id: int
    auroc: float
    auroc_low: float  # 95% confidence
    auroc_high: float
    text_density: float  # share of all texts with an active token
    token_density: float  # share of all tokens that are active
    mean_positive: float
    mean_negative: float
    active_mean_positive: float  # mean over the active tokens of positive texts, 0 where there is none

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_activations(llm: SteeredLLM, texts: Sequence[str], sae: str = "default", skip_first: int = 1) -> Activations:
    """Activations of `texts`, each read alone by a request that edits nothing; a text past the context length is cut.

    skip_first: leading tokens left out, since the first token of a text is an attention sink in most models.
    Raises SpecError for an unknown SAE.
    """
    from vllm import SamplingParams

    read = {"top": num_readable(llm.plan, sae), "reduce": "none", "sae": sae}
    spec = {"where": "prompt", "skip_first": skip_first, "read": read}
    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
    parts: list[Activations] = []
    for start in tqdm(range(0, len(texts), TEXTS_PER_CALL), desc="reading activations", unit="batch"):
        some = texts[start : start + TEXTS_PER_CALL]
        outputs = llm.generate(_prompts(llm, some), params, steering=spec, use_tqdm=False)
        parts.append(_collect([output.steering.read["top"] for output in outputs], llm.plan.saes[sae].d_sae))
    return _stack(parts)


@dataclass(frozen=True)
class Hit:
    """The token of a text at which a feature is most active, and what stands around it."""

    activation: float
    before: str
    token: str
    after: str


def top_texts(
    llm: SteeredLLM, texts: Sequence[str], feature: int, sae: str = "default", num: int = 8, skip_first: int = 1
) -> list[Hit]:
    """The `num` texts that activate `feature` most, by their most active token; texts without one are left out."""
    from vllm import SamplingParams

    spec = {"where": "prompt", "skip_first": skip_first, "read": {"features": [feature], "reduce": "none", "sae": sae}}
    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
    outputs = llm.generate(_prompts(llm, texts), params, steering=spec)
    hits = [_hit(llm.get_tokenizer(), output, feature) for output in outputs]
    active = [hit for hit in hits if hit is not None and hit.activation > 0]
    return sorted(active, key=lambda hit: -hit.activation)[:num]


def write_calibration(activations: Activations, path: Path) -> None:
    """Records max_act and density, each [d_sae] float32, in `path`; the engine looks at `sae_loader.max_act_path`."""
    save_file({name: getattr(activations, name).astype(np.float32) for name in ("max_act", "density")}, path)


def _hit(tokenizer: Any, output: Any, feature: int) -> Hit | None:
    values, positions = output.steering.read["features"][str(feature)], output.steering.read["positions"]
    if not values:
        return None
    best = int(np.argmax(values))
    at, ids = positions[best], output.prompt_token_ids
    before, token, after = (tokenizer.decode(part) for part in (ids[:at], ids[at : at + 1], ids[at + 1 :]))
    return Hit(values[best], before, token, after)


def separate(activations: Activations, positive: Sequence[bool]) -> list[Separation]:
    """Every feature that is active anywhere, the best marker of positive texts first.

    Features with equal AUROC are ordered by the difference of their means; one below 0.5 marks the negative texts.
    """
    side = np.asarray(positive, dtype=bool)
    ids = activations.active_features
    chunks = [ids[i : i + COLUMNS_PER_CHUNK] for i in range(0, len(ids), COLUMNS_PER_CHUNK)]
    found = [separation for chunk in chunks for separation in _separate_chunk(activations, side, chunk)]
    return sorted(found, key=lambda s: (-s.auroc, s.mean_negative - s.mean_positive, s.id))


def _separate_chunk(activations: Activations, side: NDArray, ids: NDArray) -> list[Separation]:
    mean, num_active = activations.mean[:, ids].toarray(), activations.num_active[:, ids].toarray()
    value = auroc(mean, side)
    total = (mean * activations.num_tokens[:, None])[side].sum(0)
    intervals = [auroc_interval(float(v), int(side.sum()), int((~side).sum())) for v in value]
    columns = {
        "text_density": (num_active > 0).mean(0),
        "token_density": activations.density[ids],
        "mean_positive": mean[side].mean(0),
        "mean_negative": mean[~side].mean(0),
        "active_mean_positive": total / np.maximum(1, num_active[side].sum(0)),
    }
    return [
        Separation(id=int(i), **_bounds(intervals[j]), **{name: float(column[j]) for name, column in columns.items()})
        for j, i in enumerate(ids)
    ]


def _bounds(interval: Interval) -> dict[str, float]:
    return {"auroc": interval.value, "auroc_low": interval.low, "auroc_high": interval.high}


def _prompts(llm: SteeredLLM, texts: Sequence[str]) -> list[dict[str, Any]]:
    longest = llm.llm.model_config.max_model_len - 1
    tokenizer = llm.get_tokenizer()
    return [{"prompt_token_ids": tokenizer(text)["input_ids"][:longest]} for text in texts]


def _collect(per_text: list[list[list[list[float]]]], d_sae: int) -> Activations:
    """`per_text`: for every text and token the active features as [id, activation]."""
    text, ids, values = _flatten(per_text)
    num_tokens = np.array([len(tokens) for tokens in per_text])
    key, slot = np.unique(text * d_sae + ids, return_inverse=True)
    total, count, peak = np.zeros(len(key)), np.zeros(len(key)), np.zeros(len(key))
    np.add.at(total, slot, values)
    np.add.at(count, slot, 1)
    np.maximum.at(peak, slot, values)
    where = (key // d_sae, key % d_sae)
    shape = (len(per_text), d_sae)
    return Activations(
        mean=csc_array((total / num_tokens[where[0]], where), shape=shape),
        peak=csc_array((peak, where), shape=shape),
        num_active=csc_array((count, where), shape=shape),
        num_tokens=num_tokens,
    )


def _flatten(per_text: list[list[list[list[float]]]]) -> tuple[NDArray, NDArray, NDArray]:
    """Text index, feature id and activation of every active feature of every token."""
    entries = [(t, i, v) for t, tokens in enumerate(per_text) for token in tokens for i, v in token]
    text, ids, values = zip(*entries, strict=True) if entries else ((), (), ())
    return np.array(text, dtype=np.int64), np.array(ids, dtype=np.int64), np.array(values, dtype=np.float64)


def _stack(parts: list[Activations]) -> Activations:
    return Activations(
        mean=vstack([part.mean for part in parts], format="csc"),
        peak=vstack([part.peak for part in parts], format="csc"),
        num_active=vstack([part.num_active for part in parts], format="csc"),
        num_tokens=np.concatenate([part.num_tokens for part in parts]),
    )
