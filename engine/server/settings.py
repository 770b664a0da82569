"""How a server is set up beyond the config. `tiller serve` has flags for it; a plain `vllm serve` reads the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

DIR_VARIABLE, KEY_VARIABLE = "TILLER_STEERING_DIR", "TILLER_STEERING_API_KEY"


@dataclass(frozen=True)
class Settings:
    """Where run-time profiles and vectors are kept (None: in memory only) and the key that guards changes."""

    folder: Path | None = None
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls) -> Self:
        folder, key = os.environ.get(DIR_VARIABLE), os.environ.get(KEY_VARIABLE)
        return cls(Path(folder) if folder else None, key or None)
