"""How a server is set up beyond the config. `tiller serve` has flags for it; a plain `vllm serve` reads the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tiller.engine.errors import ConfigError

DIR_VARIABLE, KEY_VARIABLE = "TILLER_STEERING_DIR", "TILLER_STEERING_API_KEY"


@dataclass(frozen=True)
class Settings:
    """Where run-time profiles and vectors are kept (None: in memory only) and the key that guards changes."""

    folder: Path | None = None
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls) -> Self:
        """Raises ConfigError where the key is set and empty, as `--key "$UNSET"` leaves it: no key at all would guard."""
        folder, key = os.environ.get(DIR_VARIABLE), os.environ.get(KEY_VARIABLE)
        check_key(key)
        return cls(Path(folder) if folder else None, key)


def check_key(key: str | None) -> None:
    """Raises ConfigError for an empty key for changes."""
    if key == "":
        raise ConfigError(
            f"the steering key is empty; give one, or leave --steering-api-key and {KEY_VARIABLE} out, and anybody may "
            "register profiles and vectors"
        )
