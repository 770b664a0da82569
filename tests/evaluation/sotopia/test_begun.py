"""What is said of a run that is not the one that was begun: the option that differs, with both values."""

from pathlib import Path
from typing import Any

import pytest

from tiller.engine.config import load_config
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.manifest import Manifest, make_manifest, open_run
from tiller.evaluation.sotopia.plan import make_units
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.unit import Unit
from tiller.evaluation.sotopia.world import load_world
from tiller.evaluation.sweep import prompt_units
from tiller.evaluation.sweep_targets import arms_of, targets_of

from ..test_cli import run_tiller

CONFIG = load_config("demo")


def swept(
    features: tuple[str, ...] = ("63",), alphas: tuple[float, ...] = (0, 1), prompts: tuple[str, ...] = ("a", "b"),
    scenarios: int = 0, units: str | None = None,
) -> list[Unit]:  # fmt: skip
    arms = arms_of(targets_of(CONFIG, features, units=units), alphas)
    if scenarios:
        return make_units(load_world(None).scenes(scenarios), arms, Protocol(), models=("m", "m"))
    return prompt_units(prompts, arms, Protocol(), range(1), "m")


def manifest_of(units: list[Unit], command: str = "sweep") -> Manifest:
    return make_manifest(command, CONFIG, units, ("m", "m"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alphas": (0, 0.5, 1)}, "begun there: --alphas 0,1 was begun, 0,0.5,1 given. Give"),
        ({"features": ("81",)}, "--feature, --vector and --profile feature 63 was begun, feature 81 given. Give"),
        ({"prompts": ("a", "b", "c")}, "begun there: --prompts 2 was begun, 3 given. Give"),
        ({"prompts": ("a", "c")}, "begun there: --prompts: other prompts were begun. Give"),
        ({"scenarios": 2}, "--prompts and --scenarios: prompts was begun, episodes given. Give"),
        ({"units": "norm"}, "begun there: arm.feature 63 at 0.features[0].unit nothing was begun, norm given"),
    ],
)
def test_a_sweep_that_is_another_one(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    open_run(tmp_path, manifest_of(swept()), swept()).close()
    other = swept(**change)
    with pytest.raises(InputError) as caught:
        open_run(tmp_path, manifest_of(other), other)
    assert said in str(caught.value)


def test_other_commands_and_versions_are_named(tmp_path: Path) -> None:
    units = swept()
    open_run(tmp_path, manifest_of(units), units).close()
    with pytest.raises(InputError, match="begun there: `tiller sweep` was begun, `tiller sotopia run` given. Give"):
        open_run(tmp_path, manifest_of(units, "sotopia run"), units)
    newer = manifest_of(units).model_copy(update={"versions": {"vllm-tiller": "9.9"}})
    with pytest.raises(InputError, match="begun there: vllm-tiller .* began it, 9.9 is installed. Give"):
        open_run(tmp_path, newer, units)


def test_the_command_line_names_the_option_before_anything_starts(tmp_path: Path) -> None:
    """As a user meets it who forgot how many scenarios were begun; the run stands there as it was begun."""
    from tiller.evaluation.sotopia.manifest import identity
    from tiller.evaluation.sotopia.plan import arms_of as profile_arms
    from tiller.evaluation.sotopia.settings import settings_of

    models = (identity(CONFIG),) * 2
    units = make_units(
        load_world(None).scenes(), profile_arms(CONFIG), settings_of(CONFIG).protocol, ("first",), [0], models
    )
    open_run(tmp_path, make_manifest("sotopia run", CONFIG, units, models), units).close()
    done = run_tiller("sotopia", "run", "--scenarios", "4", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path}: another run was begun there: --scenarios 24 was begun, 4 given. Give the same options to go "
        "on with it, or choose another folder\n"
    )
