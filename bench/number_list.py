"""Options that hold several numbers."""

from tiller.engine.errors import TillerError


def numbers(text: str | None, option: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list, () where none is given.

    Raises TillerError where one is no positive whole number.
    """
    try:
        found = tuple(int(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        found = (0,)
    if any(number < 1 for number in found):
        raise TillerError(f"{text!r} given; write positive whole numbers with commas between, as in 1,8,64", option)
    return found
