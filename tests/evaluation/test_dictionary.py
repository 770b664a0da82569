from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tiller.engine import SpecError, load_config
from tiller.engine.errors import ConfigError
from tiller.engine.sae.dictionary import describe_feature, feature_columns, load_dictionary
from tiller.engine.sae.loader import LoadedSAE
from tiller.engine.sae.logit_lens import logit_lens, spoken_ids


@pytest.fixture
def loaded(tiny: Path) -> LoadedSAE:
    return load_dictionary(load_config(tiny / "config.yaml"), "default")


def test_nearest_are_the_largest_cosines(loaded: LoadedSAE) -> None:
    found = describe_feature(loaded, 5, 3)
    rows = torch.nn.functional.normalize(loaded.sae.W_dec, dim=-1)
    cosines = {i: float(rows[i] @ rows[5]) for i in range(loaded.d_sae) if i != 5}
    assert [i for i, _ in found.nearest] == sorted(cosines, key=lambda i: -cosines[i])[:3]
    assert dict(found.nearest) == pytest.approx({i: cosines[i] for i, _ in found.nearest}, abs=1e-6)
    assert found.decoder_norm == pytest.approx(1.0)
    assert found.encoder_bias == float(loaded.sae.b_enc[5])


@pytest.mark.parametrize("feature", [-1, 96])
def test_unknown_feature(loaded: LoadedSAE, feature: int) -> None:
    with pytest.raises(SpecError, match=f"feature {feature} is out of range; this SAE has 0 to 95"):
        describe_feature(loaded, feature)


def test_unknown_sae(tiny: Path) -> None:
    with pytest.raises(SpecError, match="unknown SAE 'x'; this config has: default"):
        load_dictionary(load_config(tiny / "config.yaml"), "x")


def test_logit_lens_is_the_slope_of_the_logits(tiny: Path) -> None:
    """For a residual d the model's head gives logits in proportion to the lens of d, whatever the norm's scale."""
    model, direction = AutoModelForCausalLM.from_pretrained(tiny / "model"), torch.randn(64)
    logits = model.lm_head(model.model.norm(direction))
    torch.testing.assert_close(
        logit_lens(str(tiny / "model"), direction) / direction.square().mean().sqrt(), logits, rtol=1e-4, atol=1e-4
    )


def test_logit_lens_of_tied_embeddings(tmp_path: Path) -> None:
    config = Qwen2Config(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
    model, direction = Qwen2ForCausalLM(config), torch.randn(16)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logit_lens(str(tmp_path), direction), model.model.embed_tokens.weight @ direction)


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    Qwen2Config().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no safetensors files"):
        logit_lens(str(tmp_path), torch.randn(4))


def test_spoken_ids(tiny: Path, loaded: LoadedSAE) -> None:
    logits = logit_lens(str(tiny / "model"), loaded.sae.W_dec[5])
    promoted, suppressed = spoken_ids(logits, 4)
    assert promoted == logits.argsort(descending=True)[:4].tolist()
    assert suppressed == logits.argsort()[:4].tolist()


def test_columns_show_what_calibration_left(loaded: LoadedSAE, tmp_path: Path) -> None:
    assert set(feature_columns(loaded)) == {"id", "norm", "bias"}
    recorded = {"max_act": torch.rand(96), "density": torch.rand(96)}
    save_file(recorded, tmp_path / "tiller_max_act.safetensors")
    calibrated = replace(loaded, path=tmp_path)
    columns = feature_columns(calibrated)
    assert set(columns) == {"id", "norm", "bias", "max_act", "density"}
    assert torch.equal(columns["density"], recorded["density"])
    assert describe_feature(calibrated, 3).max_act == float(recorded["max_act"][3])
