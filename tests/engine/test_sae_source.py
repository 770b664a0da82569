"""Local paths, and hub ids against a cache in the hub's own layout."""

import os
import shutil
import subprocess
import sys

import pytest

from tiller.engine.errors import SAEFormatError
from tiller.engine.sae.loader import load_sae
from tiller.engine.sae.source import locate

from . import sae_writers as write

REPO, SUBFOLDER = "andyrdt/saes-qwen2.5-7b-instruct", "resid_post_layer_15/trainer_1"


@pytest.fixture
def cache(tmp_path):
    """A cache with one repository of two dictionary_learning SAEs and a checkpoint."""

    def fill(snapshot):
        for trainer in (0, 1):
            write.write_dictionary_learning(snapshot / f"resid_post_layer_15/trainer_{trainer}", "BatchTopKSAE", 24, 64)
        (snapshot / SUBFOLDER / "checkpoints").mkdir()
        shutil.copy(snapshot / SUBFOLDER / "ae.pt", snapshot / SUBFOLDER / "checkpoints" / "ae_100.pt")

    write.write_hub_cache(tmp_path / "hub", REPO, fill)
    write.write_hub_cache(tmp_path / "hub", "Qwen/scope", lambda snapshot: write.write_qwen_scope(snapshot, 24, 64))
    return tmp_path / "hub"


PRELUDE = """
from tiller.engine.errors import SAEFormatError
from tiller.engine.sae.loader import load_sae

def refused(*args, **options):
    try:
        load_sae(*args, **options)
    except SAEFormatError as error:
        print(error)
"""


def offline(cache, code):
    """Run `code` in a process that starts offline: huggingface_hub reads its settings when it is imported."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_hub_id_and_subfolder_run_from_the_cache(cache):
    code = f"""
s = load_sae({REPO!r}, subfolder={SUBFOLDER!r}, layer=15)
print(s.format, s.d_model, s.d_sae, s.layer, s.path.name)
print(load_sae({REPO!r}, subfolder={SUBFOLDER + "/checkpoints/ae_100.pt"!r}).path.name)
refused({REPO!r}, subfolder="resid_post_layer_15/trainer_7")
refused("nobody/nothing", subfolder="x")
refused({REPO!r})
q = load_sae("Qwen/scope", layer=4)
print(q.path.name, q.layer, q.sae.k, load_sae("Qwen/scope", subfolder="layer3.sae.pt").layer)
"""
    lines = offline(cache, code)
    assert lines[:2] == ["dictionary_learning 24 64 15 trainer_1", "ae_100.pt"]
    assert "has no resid_post_layer_15/trainer_7" in lines[2] and "resid_post_layer_15" in lines[2]
    assert "nobody/nothing is neither a folder here nor in the hub's cache" in lines[3]
    assert "holds no SAE" in lines[4] and "subfolder" in lines[4]
    assert lines[5:] == ["layer4.sae.pt 4 5 3"]


def test_local_path_wins_over_the_hub(tmp_path, monkeypatch):
    write.write_dictionary_learning(tmp_path / REPO / SUBFOLDER, "AutoEncoderTopK", 24, 64)
    monkeypatch.chdir(tmp_path)
    assert load_sae(REPO, subfolder=SUBFOLDER).sae.activation == "topk"


@pytest.mark.parametrize("path", ["./missing", "/missing/folder", "missing", "a/b/c", "~/missing/folder"])
def test_missing_path_is_one_sentence(path):
    with pytest.raises(SAEFormatError, match=f"{path} doesn't exist, and isn't a hub id") as caught:
        locate(path)
    assert "\n" not in str(caught.value)


def test_missing_subfolder_lists_what_is_there(tmp_path):
    (tmp_path / "trainer_0").mkdir()
    with pytest.raises(SAEFormatError, match="has no trainer_1; it holds trainer_0") as caught:
        locate(tmp_path, "trainer_1")
    assert caught.value.field == "subfolder"
