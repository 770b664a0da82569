"""A run is the same run however the paths of its files are written, and another one where the files differ."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiller.engine.config import Config, load_config
from tiller.engine.errors import ConfigError
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.manifest import identity, make_manifest, open_run
from tiller.evaluation.sotopia.plan import arms_of, make_units
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.unit import Unit
from tiller.evaluation.sotopia.world import load_world

SHIPPED = Path(str(load_config("demo").base))
FILES = ("model", "tokenizer", "sae")


def place_files(folder: Path) -> None:
    """Small files that stand for a model, its tokenizer, an SAE and a vector."""
    for name in FILES:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(f'{{"name": "{name}"}}')
    (folder / "v.safetensors").write_bytes(b"vector")


def config_with(config: Path, path_of: Callable[[str], str]) -> Config:
    body: dict[str, Any] = {
        "model": path_of("model"), "engine": {"tokenizer": path_of("tokenizer"), "dtype": "float32"},
        "saes": {"default": {"path": path_of("sae"), "layer": 1}}, "vectors": {"v": path_of("v.safetensors")},
        "profiles": {"warm": {"features": [{"id": 1, "value": 2.0}]}},
    }  # fmt: skip
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(body))
    return load_config(config)


def plan_of(config: Config) -> list[Unit]:
    return make_units(
        load_world(None).scenes(2), arms_of(config), Protocol(), ("first",), range(1), (identity(config),) * 2
    )


def open_with(out: Path, config: Config) -> Journal:
    units = plan_of(config)
    return open_run(out, make_manifest("sotopia run", config, units, (identity(config),) * 2), units)


@pytest.fixture
def spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Config]:
    """The same files from configs in several places."""
    own = tmp_path / "project"
    place_files(own)
    link = tmp_path / "link"
    link.symlink_to(own)
    monkeypatch.chdir(tmp_path)
    return {
        "relative": config_with(own / "relative.yaml", lambda name: name),
        "dotted": config_with(own / "dotted.yaml", lambda name: f"../project/./{name}"),
        "absolute": config_with(own / "absolute.yaml", lambda name: str(own / name)),
        "from elsewhere": config_with(tmp_path / "else" / "c.yaml", lambda name: str(own / name)),
        "by a link": config_with(tmp_path / "else" / "l.yaml", lambda name: str(link / name)),
        "by the working folder": config_with(tmp_path / "else" / "w.yaml", lambda name: os.path.join("project", name)),
    }


def test_other_spellings_of_the_same_files_go_on_with_the_same_run(
    spellings: dict[str, Config], tmp_path: Path
) -> None:
    open_with(tmp_path / "out", spellings["relative"]).close()
    for config in spellings.values():
        with open_with(tmp_path / "out", config) as journal:
            assert [unit.unit_id for unit in journal.units] == [unit.unit_id for unit in plan_of(config)]
    assert len({identity(config) for config in spellings.values()}) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("model/config.json", "the files of the config's model differ"),
        ("tokenizer/config.json", "the files of the config's model differ"),
        ("sae/config.json", "the files of saes.default differ"),
        ("v.safetensors", "the files of vectors.v differ"),
    ],
)
def test_other_files_under_the_same_names_are_refused_by_name(
    spellings: dict[str, Config], tmp_path: Path, changed: str, said: str
) -> None:
    open_with(tmp_path / "out", spellings["relative"]).close()
    other = tmp_path / "other" / "project"
    place_files(other)
    (other / changed).write_text("something else")
    with pytest.raises(InputError) as caught:
        open_with(tmp_path / "out", config_with(other / "c.yaml", lambda name: name))
    assert said in str(caught.value)


def test_what_ships_is_named_from_the_shipped_configs_on(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"model: {SHIPPED / 'demo' / 'model'}\n")
    for config in (tmp_path / "c.yaml", "demo"):
        assert identity(load_config(config)).startswith("demo/model@")


def test_a_hub_model_is_named_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: Qwen/not-on-this-machine\n")
    assert identity(load_config(tmp_path / "c.yaml")).startswith("Qwen/not-on-this-machine@")


def test_a_run_begun_when_paths_were_written_down_goes_on(spellings: dict[str, Config], tmp_path: Path) -> None:
    """Its manifest holds the tokenizer as it was spelled then; its content is in the model's digest."""
    config = spellings["relative"]
    units = plan_of(config)
    manifest = make_manifest("sotopia run", config, units, (identity(config),) * 2)
    old = manifest.model_copy(update={"engine": {**manifest.engine, "tokenizer": "tokenizer"}})
    open_run(tmp_path / "out", old, units).close()
    open_with(tmp_path / "out", spellings["absolute"]).close()


@pytest.mark.parametrize("key", ["model", "sae"])
def test_a_path_where_nothing_is_is_named(tmp_path: Path, key: str) -> None:
    place_files(tmp_path)
    config = config_with(tmp_path / "c.yaml", lambda name: f"/nowhere/{name}" if name == key else name)
    with pytest.raises(ConfigError, match=f"/nowhere/{key}: there is neither such a file or folder nor such a hub id"):
        identity(config)
