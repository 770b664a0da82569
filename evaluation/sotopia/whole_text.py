"""Text that UTF-8 can hold."""


def whole_text(text: str) -> str:
    """Halves of surrogate pairs, as JSON may have them where a character was cut in two, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
