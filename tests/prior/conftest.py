"""The prior of the tests, with the network that training builds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.schedules import linear_schedule


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of one channel, which training can start from."""
    folder = tmp_path_factory.mktemp("trainable prior") / "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_unet(8, 2, 1, 16)
    DiffusionPrior(network, linear_schedule(), PriorConfig(patch_size=2)).save(folder, half=False)
    return folder
