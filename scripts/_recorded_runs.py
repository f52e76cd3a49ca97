"""The runs of `record_volumes.py`: every kind of measurement, every method, and what else can change a volume.

By the package's public names and its command line only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _tiny_scans import save_prior, scan, volume

import napari_d3ip as d3

Outputs = dict[str, Any]
"""Arrays, and JSON values."""
_HISTORY = ("phase", "t", "loss", "held_out_loss", "held_out_loss_without", "lora_shift", "accepted")
_METRICS = ("psnr", "ssim", "noise_level", "residual", "held_out_residual", "lora_shift", "adaptations_accepted")
# Settings left open that the scan or the data fill in.
_FOUND = (
    *("steps", "start_t", "eta", "noise_correlation", "planes", "tv_weight", "tv_factor", "proximal_weight"),
    *("phase_constraint", "adapt_steps", "adapt_every", "adapt_loss", "adapt_leave_out", "adapt_pattern"),
    *("adapt_splits", "learning_rate"),
)
# Few steps, so that a run takes about a second.
_SHORT: Outputs = {
    "steps": 2,
    "start_t": 100,
    "iterations": 10,
    "start_iterations": 8,
    "network_steps": 20,
    "admm_steps": 3,
    "final_admm_steps": 4,
    "adapt_steps": 2,
    "adapt_every": 1,
    "batch_slices": 4,
}
_CT_METHODS = (
    "fbp",
    "cg",
    "tv",
    "tgv",
    "mbir",
    "dip",
    "dip-tv",
    "self-diffusion",
    "dds",
    "ddnm",
    "diffpir",
    "dps",
    "scd",
)
_MRI_METHODS = ("zero-filled", "sense", "l1-wavelet", "tv", "dip", "dds", "d3ip")
_HIDDEN: Outputs = {"adapt_leave_out": 0.33, "adapt_splits": 2}
# Run: scan and settings beside `_SHORT`.
_RUNS: dict[str, tuple[str, Outputs]] = {
    **{f"parallel {name}": ("parallel", {"method": name}) for name in (*_CT_METHODS, "ddip", "d3ip", "d3ip-mbir")},
    "parallel d3ip-meta": ("parallel", {"method": "d3ip-meta", "meta_groups": 2}),
    **{f"mri {name}": ("mri", {"method": name}) for name in _MRI_METHODS},
    **{f"{name} tv": (name, {"method": "tv"}) for name in ("limited", "photons", "mri-poisson", "one-coil")},
    **{f"{name} d3ip": (name, {}) for name in ("limited", "fan", "mri-maps", "blurred")},
    **{f"fan {name}": ("fan", {"method": name}) for name in ("fbp", "tv")},
    **{f"radial {name}": ("radial", {"method": name}) for name in ("zero-filled", "sense", "dds")},
    **{f"blurred {name}": ("blurred", {"method": name}) for name in ("direct", "cg", "tv")},
    **{f"missing {name}": ("missing", {"method": name}) for name in ("direct", "tv", "d3ip")},
    **{f"linear {name}": ("linear", {"method": name}) for name in ("cg", "tv", "d3ip")},
    **{f"linear-3d {name}": ("linear-3d", {"method": name}) for name in ("cg", "dds")},
    **{f"coupling {name}": ("parallel", {"method": "dds", "coupling": name}) for name in ("tgv", "tv-z", "none")},
    "coupling none, mri": ("mri", {"method": "dds", "coupling": "none"}),
    **{f"start from {name}": ("parallel", {"method": "dds", "start_from": name}) for name in ("cg", "fbp", "noise")},
    "start from noise, mri": ("mri", {"method": "dds", "start_from": "noise"}),
    **{f"loss {name}": ("parallel", {"adapt_loss": name}) for name in ("fidelity", "scales", "equivariance")},
    **{f"loss {name}, mri": ("mri", {"adapt_loss": name}) for name in ("fidelity", "both")},
    "loss fidelity, split": ("parallel", {"adapt_loss": "fidelity", "adapt_pattern": "adjacent", **_HIDDEN}),
    "loss both, split": ("parallel", {"adapt_loss": "both", "adapt_pattern": "interleaved", **_HIDDEN}),
    "loss fidelity, split, mri": ("mri", {"adapt_loss": "fidelity", **_HIDDEN}),
    "left out without splits": ("parallel", {"adapt_loss": "fidelity", "adapt_leave_out": 0.33, "adapt_splits": 0}),
    "planes all": ("parallel", {"method": "dds", "planes": "all"}),
    "planes all, adapted": ("parallel", {"planes": "all"}),
    "planes all, mri": ("mri", {"planes": "all"}),
    "without averaging": ("parallel", {"lora_ema": 0.0, "lora_rank": 2}),
    "biases": ("parallel", {"adapt_biases": True}),
    "attention": ("parallel", {"adapt_layers": "attention"}),
    "residual blocks": ("parallel", {"adapt_layers": "residual"}),
    "every second step": ("parallel", {"adapt_every": 2}),
    "refined slices": ("parallel", {"refine_steps": 2, "refine_slices": "1:3"}),
    "weights given": ("parallel", {"method": "dds", "tv_weight": 2e-3, "proximal_weight": 0.05, "noise_level": 0.1}),
    "weights given, mri": ("mri", {"tv_weight": 2e-3, "phase_constraint": 0.1, "proximal_weight": 0.05}),
    "signed": ("parallel", {"method": "tv", "nonnegative": False}),
    "phase kept": ("mri", {"method": "tv", "remove_phase": False}),
    "virtual coils": ("mri", {"method": "sense", "virtual_coils": 2, "calibration_width": 6}),
    "held-out views": ("parallel", {"method": "tv", "held_out_views": 4}),
    "nothing held out": ("parallel", {"held_out_fraction": 0.0}),
    "deterministic sampling": ("parallel", {"method": "dds", "eta": 0.0, "noise_correlation": 0.5}),
    "guidance": ("parallel", {"method": "dps", "guidance": 0.5}),
    "on the fly": ("parallel", {"method": "tv", "backend": "on-the-fly"}),
    "another seed": ("parallel", {"seed": 7}),
}
# Presets and the scan fill in what is left open, all but the number of sampling steps.
_PRESETS: dict[str, tuple[str, Outputs]] = {
    **{f"preset {name}": ("parallel", {"preset": name, "steps": 2}) for name in ("default", "fast")},
    "preset best": ("parallel", {"preset": "best", "steps": 1}),
    "preset default, limited": ("limited", {"steps": 2}),
    "preset default, mri": ("mri", {"steps": 2}),
    "preset default, stack": ("blurred", {"steps": 2}),
    "preset paper": ("parallel", {"preset": "paper", "steps": 2}),
    "preset paper, mri": ("mri", {"preset": "paper", "steps": 2}),
    "shipped prior": ("parallel", {"prior": "auto", "method": "dds", "steps": 1}),
    "shipped prior, adapted": ("parallel", {"prior": "auto", **_SHORT, "steps": 2, "adapt_steps": 1}),
}


@dataclass(frozen=True)
class Workplace:
    """A folder for files, and the tiny prior in it."""

    folder: Path

    @functools.cached_property
    def prior(self) -> str:
        """Folder of the prior."""
        return str(save_prior(self.folder / "prior"))

    def settings(self, fields: Outputs) -> Outputs:
        """Settings of a short run on one core."""
        return {"prior": self.prior, "device": "cpu", "seed": 0, **fields}


def _of_result(result: d3.Reconstruction, *, residual: bool = False) -> Outputs:
    """Return everything of a result that must stay the same."""
    arrays = {"volume": result.volume, "phase": result.phase, "coil maps": result.coil_maps}
    if residual:
        arrays["residual"] = result.residual()
    history = {key: [entry.get(key) for entry in result.history] for key in _HISTORY}
    metrics = {key: result.metrics[key] for key in _METRICS}
    used = {f"setting {key}": result.summary()["settings"][key] for key in _FOUND}
    return {**{key: array for key, array in arrays.items() if array is not None}, **history, **metrics, **used}


def _short_run(name: str, fields: Outputs, place: Workplace, *, residual: bool = False) -> Outputs:
    result = d3.reconstruct(scan(name), reference=volume(), **place.settings(fields))
    return _of_result(result, residual=residual)


def _resumed(method: str, name: str, place: Workplace) -> Outputs:
    """Cancel a run midway, go on from its checkpoint, and require the volume of a run without a break."""
    splits = _HIDDEN if method.startswith("d3ip") else {}
    settings = d3.Settings.create(place.settings({**_SHORT, "method": method, **splits, "guard": False}))
    control, checkpoint = d3.Control(), place.folder / f"{method} {name}.checkpoint"

    def stop(step: d3.Step) -> None:
        if step.phase == "sampling" and step.index < step.total:
            control.cancel()

    with contextlib.suppress(d3.Cancelled):
        d3.reconstruct(scan(name), settings, control=control, on_step=stop, checkpoint=checkpoint)
        raise RuntimeError("the run was not cancelled")
    phases: list[str] = []
    again = d3.reconstruct(
        scan(name), settings, checkpoint=checkpoint, resume=True, on_step=lambda step: phases.append(step.phase)
    )
    whole = d3.reconstruct(scan(name), settings)
    if not np.array_equal(again.volume, whole.volume):
        raise d3.D3IPError(f"{method}: the resumed run gives another volume than one without a break.")
    return {**_of_result(again), "steps after resuming": phases}


def _from_adapter(method: str, place: Workplace) -> Outputs:
    """Start from the adapter that another run saved."""
    first = d3.reconstruct(scan("parallel"), **place.settings({**_SHORT, "guard": False}))
    folder = place.folder / f"adapter of {method}"
    first.save_adapter(folder)
    return _short_run("limited", {**_SHORT, "method": method, "adapter": str(folder)}, place)


def _kept(place: Workplace) -> Outputs:
    """Stop after the first sampling step and keep the volume."""
    control = d3.Control()
    fields = place.settings({**_SHORT, "method": "dds"})
    return _of_result(d3.reconstruct(scan("parallel"), control=control, on_step=lambda _: control.keep(), **fields))


def _uncertain(name: str, place: Workplace) -> Outputs:
    """Draw two samples."""
    settings = d3.Settings.create(place.settings({**_SHORT, "method": "dds"}))
    found = d3.uncertainty(scan(name), settings, seeds=2)
    return {"mean": found.mean, "deviation": found.deviation, "seeds": list(found.seeds)}


def _regularised(place: Workplace) -> Outputs:
    """Use a proximal map of sigpy in place of total variation."""
    import sigpy

    fields = place.settings({**_SHORT, "method": "tv"})
    prox = sigpy.prox.L1Reg(scan("parallel").volume_shape[1:], 1.0)
    return _of_result(d3.reconstruct(scan("parallel"), regulariser=prox, **fields))


def _command(*arguments: str | Path) -> str:
    """Run the command line and return its standard output."""
    command = [sys.executable, "-m", "napari_d3ip", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _by_command(kind: str, ending: str, options: tuple[str, ...], place: Workplace) -> Outputs:
    """Simulate a scan, describe and reconstruct it on the command line."""
    source, measured, made = (place.folder / f"{kind} {name}" for name in ("true.npy", f"scan{ending}", "volume.npy"))
    np.save(source, volume())
    _command("simulate", source, "-o", measured, "--kind", kind, "--noise", "0.02", "--seed", "3", *options)
    described = json.loads(_command("info", measured, "--json"))
    wanted = [f"--set={key}={value}" for key, value in place.settings(_SHORT).items()]
    run = ("reconstruct", measured, "-o", made, "--method", "dds", "--reference", source, "--json")
    found = json.loads(_command(*run, *wanted))
    return {
        "measured": d3.read(measured).data,
        "volume": np.load(made),
        **{key: found[key] for key in _METRICS},
        **{key: described[key] for key in ("kind", "shape", "axes", "volume_shape")},
    }


def _evaluated(place: Workplace) -> Outputs:
    """Compare methods on a simulated scan on the command line."""
    source = place.folder / "evaluated.npy"
    np.save(source, volume())
    wanted = [f"--set={key}={value}" for key, value in place.settings(_SHORT).items() if key not in ("seed", "device")]
    options = ("--tasks", "views12", "--methods", "fbp,tv,dds", "--sweep", "tv_factor=0.5,1", "--device", "cpu")
    found = json.loads(_command("evaluate", source, "-o", place.folder / "table", *options, "--json", *wanted))
    lines = sorted(
        found["lines"], key=lambda line: json.dumps({key: line[key] for key in line if "seconds" not in key})
    )
    return {
        name: [line.get(name) for line in lines]
        for name in ("method", "psnr", "ssim", "residual", "held_out_residual")
    }


def _of_files(place: Workplace) -> Outputs:
    """Write and read volumes of every format."""
    names = ("volume.tif", "volume.zarr", "volume.npy", "volume.h5", "volume.nii.gz")
    for name in names:
        d3.save_volume(place.folder / name, volume(), voxel_size=(2.0, 1.0, 1.0), unit="micrometer")
    stacks = {name: d3.read(place.folder / name, kind="inpainting", upsample=2) for name in names}
    sizes = {f"{name}, voxel size": list(stack.voxel_size or ()) for name, stack in stacks.items()}
    return {**{name: stack.data for name, stack in stacks.items()}, **sizes}


def all_runs() -> dict[str, Callable[[Workplace], Outputs]]:
    """Return every run by its name."""
    runs: dict[str, Callable[[Workplace], Outputs]] = {
        "volume files": _of_files,
        "command line, ct": functools.partial(_by_command, "ct", ".h5", ("--views", "14")),
        "command line, mri": functools.partial(_by_command, "mri", ".npz", ("--acceleration", "2", "--coils", "3")),
        "command line, evaluate": _evaluated,
        "kept midway": _kept,
        "uncertainty": functools.partial(_uncertain, "parallel"),
        "uncertainty, mri": functools.partial(_uncertain, "mri"),
        "proximal map of sigpy": _regularised,
    }
    for method, measured in (("dds", "mri"), ("d3ip", "parallel"), ("d3ip-meta", "parallel"), ("scd", "parallel")):
        runs[f"resumed {method}, {measured}"] = functools.partial(_resumed, method, measured)
    for method in ("d3ip", "dds"):
        runs[f"from an adapter, {method}"] = functools.partial(_from_adapter, method)
    for table, usual in ((_RUNS, _SHORT), (_PRESETS, {})):
        for name, (measured, fields) in table.items():
            with_residual = fields.get("method") in ("tv", "sense")
            runs[name] = functools.partial(_short_run, measured, {**usual, **fields}, residual=with_residual)
    return runs
