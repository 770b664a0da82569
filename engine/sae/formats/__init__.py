"""Every SAE format that Tiller reads, in the order in which they are asked whether a folder is theirs."""

from pathlib import Path

from tiller.engine.errors import SAEFormatError

from . import dictionary_learning, gemma_scope, goodfire, llama_scope, openai, qwen_scope, saelens, sparsify
from .stored import Format, StoredSAE

__all__ = ["FORMATS", "Format", "StoredSAE", "recognise"]

# Those that open every pickle of a folder to see whose it is come last.
FORMATS = (
    dictionary_learning.FORMAT,
    saelens.FORMAT,
    sparsify.FORMAT,
    gemma_scope.FORMAT,
    llama_scope.FORMAT,
    qwen_scope.FORMAT,
    openai.FORMAT,
    goodfire.FORMAT,
)


def recognise(location: Path) -> Format:
    """The format of the folder or file `location`; SAEFormatError with what is there and what is accepted."""
    found = next((format for format in FORMATS if format.recognises(location)), None)
    if found:
        return found
    accepted = "; ".join(f"{format.name} ({format.layout})" for format in FORMATS)
    raise SAEFormatError(
        f"{location} holds no SAE that Tiller can read: found {_content(location)}. Accepted: {accepted}."
    )


def _content(location: Path) -> str:
    if location.is_file():
        return "another kind of file"
    names = sorted(path.name + "/" * path.is_dir() for path in location.iterdir())
    if not names:
        return "an empty folder"
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown + (" (name one SAE's folder as `subfolder`)" if any(name.endswith("/") for name in names) else "")
