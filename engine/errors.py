"""Errors that a user can cause and can fix.

TillerError (a ValueError)
    SpecError       a request's `steering` object is wrong; `field` names the part
    ConfigError     a config file or engine argument is wrong
    SAEFormatError  a dictionary's files can't be read, or don't fit the model
    UnsupportedError  vLLM is set up in a way that would answer unsteered
"""


class TillerError(ValueError):
    """Base of everything a user can fix; printed without a traceback by the command line.

    `field` names the offending part of the input, as in `steering.features[0].id`.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}" if field else message)


class SpecError(TillerError):
    """A request's `steering` object is wrong."""


class ConfigError(TillerError):
    """A config file or an engine argument is wrong."""


class SAEFormatError(TillerError):
    """A dictionary's files can't be read, or don't fit the model."""


class UnsupportedError(TillerError):
    """vLLM is set up in a way that would answer unsteered."""
