"""What all tests share: fixed seeds, few threads, no network, no screen for figures."""

from __future__ import annotations

import os

# Before anything loads torch, matplotlib or huggingface_hub.
# Processes side by side (pytest-xdist) take one core each.
os.environ.setdefault(
    "OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else str(min(4, os.cpu_count() or 1))
)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from xdist.scheduler.protocol import Scheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Keep all windows in one process: those of two would share one X server and one focus."""
    from xdist.scheduler import LoadScopeScheduling

    class OneProcessForWindows(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "gui" if nodeid.startswith("tests/gui/") else nodeid

    return OneProcessForWindows(config, log)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that use the global generator
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
