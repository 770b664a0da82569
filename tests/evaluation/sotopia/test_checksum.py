"""Rows that differ have different checksums, which stay the same in later versions of tiller."""

from hypothesis import given
from hypothesis import strategies as some

from tiller.evaluation.sotopia.checksum import checksum

ROW = some.lists(some.none() | some.integers() | some.text(), max_size=4)


@given(one=ROW, other=ROW)
def test_rows_that_differ_have_different_checksums(one: list, other: list) -> None:
    assert (checksum(*one) == checksum(*other)) == (one == other)


def test_fields_are_told_apart_by_kind_and_by_where_they_end() -> None:
    rows = [("1",), (1,), ("None",), (None,), ("ab", "c"), ("a", "bc"), ("abc",), ("a b 1",), ("",), (), ("", "")]
    assert len({checksum(*row) for row in rows}) == len(rows)


def test_a_checksum_is_the_same_in_every_version() -> None:
    """Else journals of earlier versions would seem damaged."""
    assert checksum("turns", 7, 0, 1, '{"text": "été"}').hex() == "f39101877cdc8f0b984a9ec015175d5b"
