"""The folder of --steering-dir: files that can't be written are refused whole, files that don't fit are skipped."""

import errno
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save

from tiller.engine.server.files import write_file
from tiller.engine.server.problems import NotStored

from .asking import FRENCH
from .conftest import TILLER
from .process import ServerProcess, serving
from .test_refusals import refused

SMALL = 65_536  # bytes of the file system
VECTOR = save({"v": torch.randn(128, generator=torch.Generator().manual_seed(1))}, metadata={"layer": "15"})
UNFIT = {
    "profiles/stale.json": json.dumps(
        {"steering": {"features": [{"id": 99999, "value": 1.0}]}, "defaults": {}}
    ).encode(),
    "profiles/empty.json": b"",
    "profiles/other.json": b'{"features": []}',
    "profiles/french.json": json.dumps({"steering": FRENCH, "defaults": {}}).encode(),
    "profiles/two words.json": json.dumps({"steering": FRENCH, "defaults": {}}).encode(),
    "vectors/short.safetensors": save({"v": torch.ones(3)}, metadata={"layer": "15"}),
    "vectors/torn.safetensors": VECTOR[:100],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a file system of 64 kB of its own."""
    folder = tmp_path_factory.mktemp("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Iterator[ServerProcess]:
    """The demo with files of an earlier run that don't fit it, and one profile and one vector that do."""
    fit = {"profiles/kept.json": UNFIT["profiles/french.json"], "vectors/kept.safetensors": VECTOR}
    for name, data in (UNFIT | fit).items():
        (small / name).parent.mkdir(exist_ok=True)
        (small / name).write_bytes(data)
    flags = ["--steering-dir", str(small)]
    with serving(tmp_path_factory.mktemp("log"), TILLER, "serve", "--config", "demo", *flags) as running:
        yield running


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


def test_unfit_files_are_skipped_and_named(server: ServerProcess, http: httpx.Client) -> None:
    body = http.get("/v1/steering").json()
    assert {entry["file"] for entry in body["skipped"]} == UNFIT.keys()
    reasons = {entry["file"]: entry["reason"] for entry in body["skipped"]}
    assert "99999 is out of range" in reasons["profiles/stale.json"]
    assert "the config has a profile" in reasons["profiles/french.json"]
    assert "kept" in body["profiles"] and "kept" in body["vectors"]
    logged = [json.loads(line) for line in server.log.splitlines() if line.startswith('{"event": "skipped"')]
    assert {entry["file"]: entry["reason"] for entry in logged} == reasons


def test_the_name_of_a_skipped_file_is_free(http: httpx.Client, small: Path) -> None:
    assert http.post("/v1/steering/profiles", json={"name": "stale", "steering": FRENCH}).status_code == 201
    assert "profiles/stale.json" not in {entry["file"] for entry in http.get("/v1/steering").json()["skipped"]}
    assert json.loads((small / "profiles/stale.json").read_text())["steering"] == FRENCH


def test_a_full_disk_registers_nothing_and_leaves_nothing(http: httpx.Client, small: Path) -> None:
    fill(small / "filler")
    before, files = http.get("/v1/steering").json(), sorted(small.rglob("*"))
    many = {"features": [{"id": feature, "value": 1.0} for feature in range(200)]}
    error = refused(http.post("/v1/steering/profiles", json={"name": "full", "steering": many}), 507, "name")
    assert "no space is left" in error["message"]
    form = {"name": (None, "full"), "file": ("v.safetensors", save({"v": torch.ones(128)})), "layer": (None, "15")}
    refused(http.post("/v1/steering/vectors", files=form), 507, "name")
    after = http.get("/v1/steering").json()
    assert (after["profiles"], after["vectors"]) == (before["profiles"], before["vectors"])
    assert sorted(small.rglob("*")) == files
    (small / "filler").unlink()
    assert http.post("/v1/steering/vectors", files=form).status_code == 201
    assert http.post("/v1/steering/profiles", json={"name": "full", "steering": many}).status_code == 201


def fill(path: Path) -> None:
    """Writes until the file system is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text("")
    with pytest.raises(NotStored) as caught:
        write_file(tmp_path / "profiles", "x.json", b"{}")
    assert caught.value.status == 503


def test_a_failed_write_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()  # so that the last step fails, after everything was written
    with pytest.raises(NotStored, match="x.json can't be changed"):
        write_file(tmp_path, "x.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
