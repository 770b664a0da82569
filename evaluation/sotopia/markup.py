"""Sotopia's markup in scenarios, goals and biographies: parts of a text that only some may see."""

from html.parser import HTMLParser


def visible_text(text: str, viewer: int | None) -> str:
    """`text` without tags, and without the elements whose `viewer` is another than `agent_<viewer>`; None sees everything.

    `<extra_info>`, `<strategy_hint>` and `<clarification_hint>` are shown to whoever reads the text they stand in. What is
    no tag, such as `a < b`, stays; what is opened and never closed ends with the text.
    """
    if "<" not in text and "&" not in text:
        return text.strip()
    reader = _Reader(None if viewer is None else f"agent_{viewer}")
    reader.feed(text)
    reader.close()
    return "".join(reader.parts).strip()


class _Reader(HTMLParser):
    def __init__(self, viewer: str | None) -> None:
        super().__init__()
        self.viewer = viewer
        self.parts: list[str] = []
        self.open: list[tuple[str, bool]] = []  # tag, and whether it may be seen

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        whose = dict(attrs).get("viewer")
        self.open.append((tag, whose is None or self.viewer in (None, whose)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        for i in reversed(range(len(self.open))):
            if self.open[i][0] == tag:
                del self.open[i:]
                return

    def handle_data(self, data: str) -> None:
        if all(seen for _, seen in self.open):
            self.parts.append(data)
