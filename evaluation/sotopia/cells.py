"""How numbers are written in the tables of a report."""

from math import isnan

from tiller.evaluation.stats import Interval

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A dash where there is none; a true minus; never -0."""
    if value is None or isnan(value):
        return NONE
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def interval(given: Interval, digits: int = 2, sign: bool = False) -> str:
    """value [low, high]"""
    if isnan(given.value):
        return NONE
    if isnan(given.low):
        return number(given.value, digits, sign)
    return (
        f"{number(given.value, digits, sign)} [{number(given.low, digits, sign)}, {number(given.high, digits, sign)}]"
    )


def bounds(given: Interval | None, digits: int = 2) -> str:
    return NONE if given is None else f"{number(given.low, digits, True)} to {number(given.high, digits, True)}"


def p_value(p: float) -> str:
    if isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def alpha(value: float | None) -> str:
    return NONE if value is None else f"{value:g}".replace("-", MINUS)
