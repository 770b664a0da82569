"""The site of every supported family is the tensor that Hugging Face calls the layer's output."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tiller.engine import Config, SteeredLLM, UnsupportedError
from tiller.engine.architectures import ARCHITECTURES, check_architecture

from . import tiny
from .test_scheduler import greedy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_site_is_resid_post(
    models: Callable[[str], Any], saes: Any, oracles: Callable[[str], Any], architecture: str
) -> None:
    config = Config(model=str(models(architecture)), saes=saes)
    llm = SteeredLLM.from_config(config, capture=True, **tiny.ENGINE)
    try:
        prompt = tiny.prompt(5, 17)
        value, feature = 7.0, 11
        spec = {"features": [{"id": feature, "value": value}]}
        output = llm.generate([prompt], greedy(1), steering=spec, use_tqdm=False)[0]
        captured = llm.llm.collective_rpc("tiller_captured")[0]
    finally:
        llm.shutdown()
    for layer in (tiny.OTHER_LAYER, tiny.LAYER):
        expected = oracles(architecture).residual(prompt["prompt_token_ids"], layer)
        torch.testing.assert_close(torch.tensor(captured[str(layer)]), expected, rtol=1e-3, atol=1e-3)
    direction = oracles(architecture).saes[tiny.LAYER]["default"].directions[feature]
    assert output.steering.mean_delta_norm == pytest.approx(value * float(direction.norm()), rel=1e-4)


def test_unknown_families_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="NobodyForCausalLM.*supported: .*Qwen2ForCausalLM"):
        check_architecture(["NobodyForCausalLM"])
