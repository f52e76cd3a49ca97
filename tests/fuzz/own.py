"""Valid files of this package's own: priors, adapters, checkpoints, results, settings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.scans import ANGLES, INTEGRALS


def scan() -> Any:
    """The scan of the checkpoint."""
    from napari_d3ip.measurement import Sinogram

    return Sinogram(INTEGRALS, ANGLES, slice_shape=(6, 6), source="scan")


def settings(prior: Path) -> Any:
    """Settings of a run that takes a moment."""
    from napari_d3ip.settings import Settings

    fields = {
        **{"method": "d3ip", "prior": str(prior), "device": "cpu", "steps": 2, "start_t": 200, "admm_steps": 2},
        **{"cg_steps": 2, "adapt_steps": 1, "adapt_slices": 1, "lora_rank": 1, "tv_weight": 2e-3, "adapt_splits": 0},
        **{"start_iterations": 2, "adapt_loss": "fidelity", "adapt_leave_out": 0.0},
    }
    return Settings.create(fields)


def prior(folder: Path, number: int = 0) -> Path:
    """A prior of random weights."""
    import torch

    from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
    from napari_d3ip.prior.schedules import linear_schedule

    torch.manual_seed(0)
    network = build_unet(8, 2, 1, 16)
    DiffusionPrior(network, linear_schedule(), PriorConfig(channels=1, patch_size=2, low=-1.0)).save(
        folder / "tiny", half=bool(number)
    )
    return folder / "tiny"


def adapter(folder: Path, number: int) -> Path:
    """Adapters of that prior, with a digest or, as PEFT writes them, without."""
    from napari_d3ip.adaptation.adapter import Adapter, saved_adapter
    from napari_d3ip.prior.loading import load_prior

    loaded = load_prior(prior(folder))
    kept = saved_adapter(loaded, Adapter(loaded, rank=1, learning_rate=1e-3).state(), "all", {"kind": "sinogram"})
    assert kept is not None
    kept.save(folder / "adapter")
    if number:
        (folder / "adapter" / "napari_d3ip.json").unlink()
    return folder / "adapter"


def checkpoint(folder: Path, number: int) -> Path:
    """State of a run that ended after its first sampling step."""
    from napari_d3ip.reconstruction import iter_reconstruct

    path = folder / "run.checkpoint"
    for step in iter_reconstruct(scan(), settings(prior(folder)), checkpoint=path):
        if step.phase == "sampling":
            break
    return path


@cache
def problem(folder: Path) -> Any:
    """The problem of the run whose checkpoint lies in a folder."""
    import torch

    from napari_d3ip.preparation import prepare
    from napari_d3ip.reconstruction import Control
    from napari_d3ip.reconstruction.resolve import resolve
    from napari_d3ip.reconstruction.start import with_sign

    resolved = resolve(settings(folder / "tiny"), scan())
    return with_sign(prepare(scan(), resolved, torch.device("cpu"), Control().check)).problem


def result(folder: Path, number: int, note: str | None = None) -> Path:
    """A result in one of the formats of volumes, with its own note or another."""
    from napari_d3ip.io import volumes
    from napari_d3ip.io.position import Belongings
    from napari_d3ip.io.volumes.base import Volume, make_note
    from napari_d3ip.settings import Settings

    path = folder / ("result.tif", "result.npy", "result.h5", "result.nii", "result.zarr", "result.ome.tif")[number]
    metadata = {
        **{"settings": Settings.create(method="tv").model_dump(mode="json"), "requested": {"method": "tv"}},
        **{"history": [{"phase": "start", "iteration": 1, "objective": 1.0, "seconds": 0.1}], "source": "scan.npz"},
        **{"residual": 1.0, "part": "magnitude"},
    }
    about = {"kind": "sinogram", "source": "scan.npz", "path": str(folder / "scan.npz"), "options": {"axes": "zad"}}
    belongings = Belongings("scan tv", scan={**about, "slices": [0, 3], "sample": None, "norm": 5.0})
    volume = Volume(np.asarray(INTEGRALS), (1.0, 2.0, 2.0), "micrometer", metadata, belongings)
    volumes._WRITERS[path.suffix](path, volume, note or make_note(volume, path))
    np.savez(folder / "scan.npz", data=INTEGRALS, angles=ANGLES)
    return path


def settings_file(folder: Path, number: int) -> Path:
    """A file of settings."""
    path = folder / "settings.json"
    fields = settings(folder / "tiny").model_dump(mode="json", exclude_unset=not number)
    path.write_text(json.dumps(fields, indent=2))
    return path
