"""Activations through the engine, against the reference encoder on Hugging Face's residuals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tiller.engine import SpecError
from tiller.engine.sae.dictionary import num_readable
from tiller.engine.sae.loader import load_sae
from tiller.evaluation.features import (
    Activations,
    read_activations,
    separate,
    top_texts,
    write_calibration,
)
from tiller.kernels.reference import encode

from .conftest import PLANTED, PLANTED_TOKEN, K, residuals

NUM_TEXTS = 24


@pytest.fixture(scope="module")
def token_ids() -> list[list[int]]:
    """Texts of different lengths; the odd ones hold the planted token in their middle."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(20, 512, size=6 + i % 5).tolist() for i in range(NUM_TEXTS)]
    for ids in texts[1::2]:
        ids[3] = PLANTED_TOKEN
    return texts


@pytest.fixture(scope="module")
def texts(token_ids: list[list[int]]) -> list[str]:
    return [" ".join(f"t{i}" for i in ids) for ids in token_ids]


@pytest.fixture(scope="module")
def activations(llm: Any, texts: list[str]) -> Activations:
    return read_activations(llm, texts)


@pytest.fixture(scope="module")
def codes(tiny: Path, token_ids: list[list[int]]) -> list[torch.Tensor]:
    """f [num_tokens - 1, d_sae] of every text after its first token."""
    model, sae = AutoModelForCausalLM.from_pretrained(tiny / "model"), load_sae(tiny / "sae").sae
    return [encode(residuals(model, torch.tensor([ids]))[0, 1:], sae) for ids in token_ids]


def test_activations_are_those_of_the_reference(activations: Activations, codes: list[torch.Tensor]) -> None:
    assert activations.num_tokens.tolist() == [len(code) for code in codes]
    for name, expected in {
        "mean": [code.mean(0) for code in codes],
        "peak": [code.max(0).values for code in codes],
        "num_active": [(code > 0).sum(0) for code in codes],
    }.items():
        found = getattr(activations, name).toarray()
        np.testing.assert_allclose(found, torch.stack(expected).numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
    every = torch.cat(codes)
    np.testing.assert_allclose(activations.density, (every > 0).float().mean(0).numpy(), rtol=1e-6)
    np.testing.assert_allclose(activations.max_act, every.max(0).values.numpy(), rtol=1e-3, atol=1e-3)


def test_a_topk_code_is_read_whole(llm: Any) -> None:
    assert num_readable(llm.plan, "default") == K
    with pytest.raises(SpecError, match="unknown SAE 'x'"):
        num_readable(llm.plan, "x")


def test_the_planted_feature_ranks_first(activations: Activations) -> None:
    found = separate(activations, [i % 2 == 1 for i in range(NUM_TEXTS)])
    first = found[0]
    assert first.id == PLANTED and first.auroc == 1.0 and 0.7 < first.auroc_low < 1.0
    assert first.text_density == 0.5 and first.mean_negative == 0.0
    assert first.token_density == pytest.approx(NUM_TEXTS / 2 / activations.num_tokens.sum())
    assert {s.id for s in found} == set(activations.active_features.tolist())
    assert [s.auroc for s in found] == sorted((s.auroc for s in found), reverse=True)


def test_active_mean_is_over_active_tokens_of_positive_texts(
    activations: Activations, codes: list[torch.Tensor]
) -> None:
    every = torch.cat(codes[1::2])
    for s in separate(activations, [i % 2 == 1 for i in range(NUM_TEXTS)])[:10]:
        active = every[:, s.id][every[:, s.id] > 0]
        assert s.active_mean_positive == pytest.approx(float(active.mean()), rel=1e-3)


def test_top_texts_point_at_the_token(llm: Any, texts: list[str]) -> None:
    hits = top_texts(llm, texts, PLANTED, num=100)
    assert len(hits) == NUM_TEXTS // 2
    assert {hit.token for hit in hits} == {f"t{PLANTED_TOKEN}"}
    assert [hit.activation for hit in hits] == sorted((hit.activation for hit in hits), reverse=True)
    assert len(hits[0].before.split()) == 3


def test_a_long_text_is_cut(llm: Any) -> None:
    assert read_activations(llm, ["t9 " * 1000], skip_first=0).num_tokens.tolist() == [255]


def test_calibration_file(activations: Activations, tmp_path: Path) -> None:
    write_calibration(activations, tmp_path / "c.safetensors")
    recorded = load_file(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(recorded["max_act"].numpy(), activations.max_act.astype(np.float32))
    np.testing.assert_array_equal(recorded["density"].numpy(), activations.density.astype(np.float32))
