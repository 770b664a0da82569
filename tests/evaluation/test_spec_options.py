from typing import Any

import pytest

from tiller.engine import Config, TillerError
from tiller.evaluation.spec_options import spec_of

CONFIG = Config(model="m", profiles={"warm": {"features": [{"id": 1, "value": 2.0}], "where": "generated"}})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"features": ["7=4"]}, {"features": [{"id": 7, "value": 4.0}]}),
        (
            {"features": ["7=-.5", "8=1e2"], "op": "set", "unit": "norm", "sae": "other"},
            {
                "features": [
                    {"id": i, "op": "set", "value": v, "unit": "norm", "sae": "other"} for i, v in [(7, -0.5), (8, 1e2)]
                ]
            },
        ),  # fmt: skip
        ({"features": ["7"], "op": "ablate"}, {"features": [{"id": 7, "op": "ablate"}]}),
        ({"vectors": ["v=3"], "where": "prompt"}, {"vectors": [{"name": "v", "alpha": 3.0}], "where": "prompt"}),
        ({"where": "-4:"}, {"where": {"start": -4}}),
        ({"where": ":9"}, {"where": {"end": 9}}),
        ({"profile": "warm"}, {"features": [{"id": 1, "value": 2.0}], "where": "generated"}),
        (
            {"profile": "warm", "features": ["3=1"], "where": "all"},
            {"features": [{"id": 1, "value": 2.0}, {"id": 3, "value": 1.0}]},
        ),
        ({"steering": '{"error_term": false}', "error_term": None}, {"error_term": False}),
        ({"error_term": False}, {"error_term": False}),
    ],
)
def test_options_make_a_spec(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert spec_of(CONFIG, **options).model_dump(exclude_defaults=True) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["x=1"]}, "--feature x=1: a feature is named by its number"),
        ({"features": ["7"]}, "--feature 7: --op add needs a value"),
        ({"features": ["7=high"]}, "--feature 7=high: 'high' is no number"),
        ({"features": ["7=1"], "op": "ablate"}, "--feature 7=1: --op ablate takes no value"),
        ({"features": ["7=nan"]}, "finite"),
        ({"features": ["7=1", "7=2"]}, "feature 7 of SAE 'default' is edited twice"),
        ({"profile": "cold"}, "unknown profile 'cold'; this config has: warm"),
        ({"profile": "warm", "steering": "{}"}, "pass one of them"),
        ({"steering": "{"}, "--steering"),
        ({"where": "a:b"}, "--where: 'a:b' given"),
        ({"where": "middle"}, "where"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TillerError) as raised:
        spec_of(CONFIG, **options)
    assert message in str(raised.value)
