"""A dictionary that can't fit is refused before it is read."""

import psutil
import pytest
import torch

from tiller.engine import UnsupportedError
from tiller.engine.worker.memory import GIB, check_room

CPU = torch.device("cpu")


def test_what_fits_passes():
    check_room("SAE 'default'", GIB // 64, CPU)


def test_what_does_not_fit_says_how_much_there_is():
    too_much = 10 * psutil.virtual_memory().total
    with pytest.raises(UnsupportedError, match=r"SAE 'default' takes [\d.]+ GiB and cpu has [\d.]+ GiB free"):
        check_room("SAE 'default'", too_much, CPU)


def test_an_sae_larger_than_memory_is_refused_before_it_is_read(monkeypatch):
    from tiller.engine.compat import LargestBatch
    from tiller.engine.inventory import Plan, SAEEntry
    from tiller.engine.worker import models

    entry = SAEEntry(path="/nowhere", layer=1, d_sae=1 << 30, d_model=1 << 14, format="saelens")
    with pytest.raises(UnsupportedError, match="takes 131072.00 GiB"):
        models.load_steering(Plan(saes={"default": entry}), 1 << 14, LargestBatch(4, 64))


def test_a_wrong_choice_of_kernels_is_refused_in_the_front_end(monkeypatch):
    from tiller.engine import ConfigError, compat

    monkeypatch.setenv("TILLER_KERNELS", "fast")
    with pytest.raises(ConfigError, match="TILLER_KERNELS is 'fast'; it may be"):
        compat.takes_cuda_graphs()
