"""Repeated keys and numbers that are none are found anywhere in a JSON text, in a time linear in its size."""

from typing import Any

import pytest

from tiller.engine.errors import SpecError
from tiller.engine.server import json_text
from tiller.engine.server.json_text import Object, check_value, parse_pairs


class CountedKey(str):
    """A key that counts how often keys are hashed or compared."""

    operations = 0

    def __hash__(self) -> int:
        CountedKey.operations += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedKey.operations += 1
        return super().__eq__(other)


def operations(num_keys: int) -> int:
    """How often keys are touched to find that `num_keys` distinct ones are distinct."""
    value = Object((CountedKey(f"k{number}"), 1) for number in range(num_keys))
    CountedKey.operations = 0
    check_value(value, "steering")
    return CountedKey.operations


def test_the_work_grows_with_the_number_of_keys_alone() -> None:
    few, many = operations(1000), operations(4000)
    assert 1000 <= few <= 4000
    assert many <= 4.5 * few


def test_a_long_key_is_not_copied_for_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of 100 kB above 10,000 values would be 1 GB of paths, of which no error shows one."""
    spelled: list[object] = []
    monkeypatch.setattr(json_text, "_spelled", spelled.append)
    value = parse_pairs(f'{{"{"k" * 1000}": {list(range(1000))}, "b": {{"c": [1, {{"d": 2}}]}}}}', "x")
    check_value(value, "x")
    assert spelled == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a": 1, "a": 1}', "x"),
        ('{"b": {"a": 1, "c": 2, "a": 3}}', "x.b"),
        ('{"b": [0, {"a": [{"d": 1, "d": 2}]}]}', "x.b[1].a[0]"),
        ('{"b": NaN}', "x.b"),
        ("[1, [-Infinity]]", "x[1][0]"),
    ],
)
def test_the_place_is_named(text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_value(parse_pairs(text, "x"), "x")
    assert caught.value.field == field


@pytest.mark.parametrize("text", ['{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}', "3", '"NaN"', "[]"])
def test_what_is_said_once_passes(text: str) -> None:
    check_value(parse_pairs(text, "x"), "x")


def test_depth_is_refused(deep: Any = "[" * 100_000) -> None:
    with pytest.raises(SpecError, match="nested too deeply"):
        parse_pairs(deep + "]" * 100_000, "x")
