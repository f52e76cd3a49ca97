"""Runs a reconstruction: prepares the problem, drives a method, keeps time, history and checkpoints.

Everything that needs to know a scan's units is here; methods and solvers see a problem of unit norm and intensity.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.adaptation import AdapterState
from napari_d3ip.errors import DeviceError, FileError, PriorError, SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.methods import METHODS, Event, SamplerState, initial_state
from napari_d3ip.metrics import check_reference, psnr, ssim
from napari_d3ip.noise import estimate_noise
from napari_d3ip.operators.base import Masked, Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.prior.network import DiffusionPrior, load_prior
from napari_d3ip.problem import Problem
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.settings import ADAPTIVE_METHODS, DIFFUSION_METHODS, Settings
from napari_d3ip.solvers.classical import (
    angular_weights,
    last,
    least_squares,
    ramp_filter,
    total_variation_reconstruction,
)
from napari_d3ip.solvers.total_variation import Duals, Regulariser

FloatArray = npt.NDArray[np.float32]
_SCALING_ITERATIONS = 6
_PATIENCE = 5
_START_CG = 10
_WEIGHT_PER_NOISE = 0.04
_SLAB, _SLAB_ITERATIONS, _LARGEST_EXPONENT = 12, 20, 6
# Starting times for an even half circle and for half of it missing.
_START_FULL, _START_HALF = 20, 300
_STEPS_FULL, _STEPS_HALF = 4, 12


def resolve_device(name: str) -> torch.device:
    """Device for a name; ``auto`` takes the first CUDA device or the CPU.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device: {name} is not there ({torch.cuda.device_count()} CUDA devices); use auto or cpu.")
    return device


def describe_device(device: torch.device) -> str:
    """Device with its hardware, for the record."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


@dataclass(frozen=True)
class Rays:
    """What each ray is for; masks of the sinogram's shape, 0 or 1, that add up to 1.

    Parameters
    ----------
    used : Tensor
        Fitted by the reconstruction.
    held_out : Tensor
        Random rays that steer it (TV weight, when to stop, whether adaptation helps) but are never fitted.
    left_out : Tensor
        Whole projections that it never sees at all; only for the final `Reconstruction.metrics`.
    """

    used: Tensor
    held_out: Tensor
    left_out: Tensor

    @classmethod
    def split(cls, shape: tuple[int, ...], settings: Settings) -> Rays:
        """Split rays of shape (z, angle, detector) as the settings and the seed say.

        Raises
        ------
        SettingsError
            If too few projections would be left.
        """
        generator = torch.Generator().manual_seed(settings.seed)
        every = settings.held_out_views
        left_out = torch.zeros(shape)
        if every:
            views = torch.arange(shape[1]) % every == every // 2
            if shape[1] - int(views.sum()) < 2:
                raise SettingsError(
                    f"held_out_views: leaving out every {every}th of {shape[1]} projections leaves too few; "
                    "give a larger number, or 0."
                )
            left_out[:, views] = 1
        held_out = (torch.rand(shape, generator=generator) < settings.held_out_fraction).float() * (1 - left_out)
        return cls(1 - held_out - left_out, held_out, left_out)


@dataclass(frozen=True)
class Preparation:
    """A measurement as a problem of unit norm and intensity, with the way back."""

    problem: Problem
    rays: Rays
    operator: ParallelBeam
    intensity: float
    noise_level: float


def prepare(measurement: Measurement, settings: Settings, device: torch.device, control: Control) -> Preparation:
    """Normalise a scan: ``|A| = 1`` and volumes in about [0, 1], both from the measurement alone."""
    operator = ParallelBeam.of(measurement, device)
    rays = Rays.split(measurement.data.shape, settings)
    used, held_out = rays.used.to(device), rays.held_out.to(device)
    unit = Scaled(operator, 1 / operator.norm(device))
    measured = torch.tensor(measurement.data, device=device) * unit.factor

    zero = torch.zeros(measurement.volume_shape, device=device)
    rough = least_squares(Masked(unit, used), measured * used, zero, _SCALING_ITERATIONS, check=control.check)
    intensity = robust_maximum(last(rough))
    noise_level = settings.noise_level or estimate_noise(measurement.data)
    problem = Problem(
        operator=unit,
        measured=measured / intensity,
        used=used,
        held_out=held_out,
        noise=noise_level * unit.factor / intensity,
        regulariser=Regulariser(weight=0.0, nonnegative=settings.nonnegative),
        settings=settings,
        check=control.check,
    )
    return Preparation(problem, rays, operator, intensity, noise_level)


def robust_maximum(volume: Tensor) -> float:
    """99.8th percentile of the absolute values: the intensity that the prior sees as 1."""
    values = volume.abs().flatten()
    rank = max(1, round(0.998 * len(values)))
    return max(float(values.kthvalue(rank).values), float(np.finfo(np.float32).tiny))


class Recorder:
    """Times phases and turns what happened into history entries and `Step` objects with an ETA."""

    def __init__(self, plan: list[str], intensity: float) -> None:
        self._plan = plan
        self._intensity = intensity
        self._durations: dict[str, list[float]] = {}
        self._began = self._last = time.monotonic()
        self.history: list[dict[str, Any]] = []

    def seconds(self, *phases: str) -> float:
        """Seconds spent in some phases, or since the start."""
        if not phases:
            return time.monotonic() - self._began
        return sum(sum(self._durations.get(phase, [])) for phase in phases)

    def record(self, phase: str, volume: Tensor, **values: Any) -> Step:
        """Note the end of a step that led to ``volume`` (at unit intensity)."""
        now = time.monotonic()
        self._durations.setdefault(phase, []).append(now - self._last)
        self.history.append({"phase": phase, "seconds": now - self._last, **values})
        self._last = now
        done = len(self.history)
        known = {"loss", "held_out_loss", "lora_shift"}
        return Step(
            index=done,
            total=max(done, len(self._plan)),
            phase=phase,
            eta_seconds=self._remaining(self._plan[done:]),
            preview=to_numpy(volume * self._intensity),
            **{name: value for name, value in values.items() if name in known},
        )

    def _remaining(self, phases: list[str]) -> float | None:
        """Estimate from the mean duration of each phase so far; None until every phase was seen once."""
        if any(phase not in self._durations for phase in phases):
            return None
        return sum(float(np.mean(self._durations[phase])) for phase in phases)


def to_numpy(volume: Tensor) -> FloatArray:
    """Float32 array on the CPU."""
    array: FloatArray = volume.detach().to("cpu", torch.float32).numpy()
    return array


def run(
    measurement: Measurement,
    settings: Settings,
    reference: FloatArray | None,
    control: Control,
    checkpoint: str | Path | None,
    resume: bool,
) -> Generator[Step, None, Reconstruction]:
    """Body of `napari_d3ip.iter_reconstruct`, which documents it."""
    began = time.monotonic()
    device = resolve_device(settings.device)
    if reference is not None:
        reference = check_reference(reference, measurement.volume_shape)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    settings = resolve(settings, measurement)
    prior = load_single_channel(settings.prior, device) if settings.method in DIFFUSION_METHODS else None
    prepared = prepare(measurement, settings, device, control)
    recorder = Recorder(plan(settings, measurement.volume_shape[0]), prepared.intensity)
    if prior is not None:
        store = Checkpoint(checkpoint, measurement, settings)
        volume, settings = yield from _sample(measurement, prepared, settings, prior, recorder, control, store, resume)
        store.remove()
    else:
        volume, settings = yield from _classical(measurement, prepared, settings, recorder, control)

    physical = to_numpy(volume * prepared.intensity)
    metrics = {
        "method": settings.method,
        "shape": list(physical.shape),
        "seconds": time.monotonic() - began,
        "adapt_seconds": recorder.seconds("adaptation"),
        "sample_seconds": recorder.seconds("sampling"),
        "peak_memory_bytes": peak_memory(device),
        "device": describe_device(device),
        "seed": settings.seed,
        **_residuals(prepared, volume),
        **_adaptation(recorder.history),
        "psnr": None if reference is None else psnr(physical, reference),
        "ssim": None if reference is None else ssim(physical, reference),
        "stopped_early": control.kept,
        "versions": versions(),
    }
    return Reconstruction(physical, settings, recorder.history, metrics, measurement)


def resolve(settings: Settings, measurement: Measurement) -> Settings:
    """Fill in what is chosen from the scan's geometry.

    Raises
    ------
    SettingsError
        If more sampling steps are asked for than there are times.
    """
    fields: dict[str, Any] = {}
    # The more directions are missing, the more the prior has to add: sampling starts earlier, in more steps.
    missing = min(1.0, max(0.0, 170.0 - measurement.angular_range) / 80.0)
    if settings.start_t is None:
        fields["start_t"] = round(_START_FULL + (_START_HALF - _START_FULL) * missing)
    if settings.steps is None:
        fields["steps"] = round(_STEPS_FULL + (_STEPS_HALF - _STEPS_FULL) * missing)
    if settings.planes == "auto":
        slices, _, _ = measurement.volume_shape
        z, y, x = measurement.voxel_size or (1.0, 1.0, 1.0)
        isotropic = max(z, y, x) <= 2 * min(z, y, x)
        fields["planes"] = "all" if isotropic and slices >= 16 and settings.coupling == "tv3d" else "axial"
    settings = settings.updated(**fields) if fields else settings
    if settings.method in DIFFUSION_METHODS and (settings.start_t or 0) < (settings.steps or 0):
        raise SettingsError(f"steps: {settings.steps} do not fit below start_t {settings.start_t}; lower steps.")
    return settings


def load_single_channel(name: str, device: torch.device) -> DiffusionPrior:
    """Prior of real images.

    Raises
    ------
    PriorError
        If it cannot be loaded or is of several channels.
    """
    prior = load_prior(name, device)
    if prior.config.channels != 1:
        raise PriorError(f"prior: {name} is of {prior.config.channels} channels, but slices have 1; choose another.")
    return prior


def plan(settings: Settings, slices: int) -> list[str]:
    """Phases of a run in order, for progress and ETA."""
    if settings.method not in DIFFUSION_METHODS:
        return ["iteration"] * (1 if settings.method == "fbp" else settings.iterations)
    phases = ["first reconstruction"]
    for index in range(settings.steps or 0):
        if settings.method in ADAPTIVE_METHODS and index % settings.adapt_every == 0:
            phases += ["adaptation"] * (slices if settings.method == "ddip" else 1)
        phases.append("sampling")
    return phases


def _residuals(prepared: Preparation, volume: Tensor) -> dict[str, float | None]:
    """Root mean square residuals in units of the noise level, on the rays fitted and on those never fitted."""
    problem, rays = prepared.problem, prepared.rays
    unseen = rays.left_out if bool(rays.left_out.any()) else rays.held_out
    return {
        "noise_level": prepared.noise_level,
        "residual": float(problem.residual(volume, problem.used)) ** 0.5,
        "held_out_residual": (
            float(problem.residual(volume, unseen.to(volume.device))) ** 0.5 if bool(unseen.any()) else None
        ),
    }


def _adaptation(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Largest change of the weights that sampling used, and how many rounds of adaptation were accepted."""
    shifts = [entry["lora_shift"] for entry in history if entry["phase"] == "sampling" and entry.get("lora_shift")]
    verdicts = [entry["accepted"] for entry in history if entry["phase"] == "adaptation"]
    return {
        "lora_shift": max(shifts, default=0.0) if verdicts else None,
        "adaptations": len(verdicts),
        "adaptations_accepted": sum(verdicts),
    }


def peak_memory(device: torch.device) -> int:
    """Peak bytes: allocated by torch on CUDA, resident in the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB.


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("napari-d3ip", "torch", "diffusers", "peft", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _classical(
    measurement: Measurement, prepared: Preparation, settings: Settings, recorder: Recorder, control: Control
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """fbp, cg or tv."""
    problem = prepared.problem
    zero = torch.zeros(measurement.volume_shape, device=problem.measured.device)
    if settings.method == "fbp":
        volume = fbp(measurement, prepared)
        yield recorder.record("iteration", volume)
        return volume, settings
    if settings.method == "cg":
        best, best_loss, worse = zero, float("inf"), 0
        for volume in least_squares(
            problem.fitted, problem.measured * problem.used, zero, settings.iterations, check=control.check
        ):
            loss = float(problem.residual(volume, problem.used))
            held_out = float(problem.residual(volume, problem.held_out)) if settings.held_out_fraction else None
            yield recorder.record("iteration", volume, loss=loss, held_out_loss=held_out)
            # Semi-convergence: held-out rays say when noise begins to be fitted, else the discrepancy principle.
            judged = loss if held_out is None else held_out
            if judged < best_loss:
                best, best_loss, worse = volume, judged, 0
            else:
                worse += 1
            if control.kept or worse == _PATIENCE or (held_out is None and loss <= 1):
                break
        return best, settings
    weight = settings.tv_weight if settings.tv_weight is not None else choose_tv_weight(problem)
    volume = zero
    for volume in tv_iterates(problem, weight, settings.iterations):
        loss = float(problem.residual(volume, problem.used))
        held_out = float(problem.residual(volume, problem.held_out)) if settings.held_out_fraction else None
        yield recorder.record("iteration", volume, loss=loss, held_out_loss=held_out)
        if control.kept:
            break
    return volume, settings.updated(tv_weight=weight)


def fbp(measurement: Measurement, prepared: Preparation) -> Tensor:
    """Filtered back-projection of the rays that may be seen, at unit intensity.

    Held-out rays are filled in from their neighbours on the detector, left-out projections are dropped.
    """
    rays = prepared.rays
    device = prepared.problem.measured.device
    data = torch.tensor(measurement.data, device=device)
    held_out = prepared.problem.held_out.bool()
    neighbours = (torch.roll(data, 1, dims=-1) + torch.roll(data, -1, dims=-1)) / 2
    data = torch.where(held_out, neighbours, data)
    kept = (rays.left_out.sum(dim=(0, 2)) == 0).numpy()
    full = torch.zeros_like(data)
    weights = torch.tensor(np.asarray(angular_weights(measurement.angles[kept])), dtype=data.dtype, device=device)
    full[:, torch.tensor(kept, device=device)] = weights[:, None] * ramp_filter(
        data[:, torch.tensor(kept, device=device)], measurement.detector_pitch
    )
    # The adjoint sums 1 / pitch of ray length per pixel and view.
    return prepared.operator.adjoint(full) * measurement.detector_pitch / prepared.intensity


def tv_iterates(problem: Problem, weight: float, iterations: int, start: Tensor | None = None) -> Iterator[Tensor]:
    """Iterates of 3D total variation with ``weight`` on the rays used."""
    first = torch.zeros_like(problem.operator.adjoint(problem.measured)) if start is None else start
    regulariser = Regulariser(weight=weight, nonnegative=problem.settings.nonnegative)
    return total_variation_reconstruction(
        problem.fitted, problem.measured * problem.used, first, regulariser, iterations, check=problem.check
    )


def choose_tv_weight(problem: Problem) -> float:
    """Weight of 3D total variation that predicts the held-out rays best, from the measurement alone.

    Walks a grid of factors of two from a weight proportional to the noise, on a slab of central slices, and refines
    by a parabola through the three best. Without held-out rays the proportional weight itself is taken.

    Parameters
    ----------
    problem : Problem
        At unit norm and intensity.

    Returns
    -------
    float
        Weight lambda at unit norm and intensity.
    """
    usual = _WEIGHT_PER_NOISE * problem.noise
    if not bool(problem.held_out.any()):
        return usual
    middle = len(problem.measured) // 2
    first = max(0, middle - _SLAB // 2)
    slab = problem.of_slices(torch.arange(first, min(len(problem.measured), first + _SLAB)))
    losses: dict[int, float] = {}
    volume: Tensor | None = None

    def loss(exponent: int) -> float:
        nonlocal volume
        if exponent not in losses:
            volume = last(tv_iterates(slab, usual * 2.0**exponent, _SLAB_ITERATIONS, volume))
            losses[exponent] = float(slab.residual(volume, slab.held_out))
        return losses[exponent]

    best = 0
    for direction in (1, -1):
        while abs(best) < _LARGEST_EXPONENT and loss(best + direction) < loss(best):
            best += direction
        if best > 0:
            break
    left, center, right = loss(best - 1), loss(best), loss(best + 1)
    bend = left - 2 * center + right
    offset = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(usual * 2.0 ** (best + min(0.5, max(-0.5, offset))))


def _sample(
    measurement: Measurement,
    prepared: Preparation,
    settings: Settings,
    prior: DiffusionPrior,
    recorder: Recorder,
    control: Control,
    store: Checkpoint,
    resume: bool,
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """First reconstruction, then one of the diffusion methods."""
    device = prepared.problem.measured.device
    if settings.tv_weight is None and (settings.coupling != "none" or settings.start_from == "tv"):
        settings = settings.updated(tv_weight=choose_tv_weight(prepared.problem))
    problem = replace(
        prepared.problem,
        settings=settings,
        regulariser=Regulariser(
            axes=(0,) if settings.coupling == "tv-z" else (0, 1, 2),
            weight=0.0 if settings.coupling == "none" else settings.tv_factor * (settings.tv_weight or 0.0),
            nonnegative=settings.nonnegative,
            proximal_weight=settings.proximal_weight,
        ),
    )
    state = store.load(device) if resume else None
    if state is None:
        first = first_reconstruction(measurement, prepared, problem)
        state = initial_state(problem, prior, first)
        yield recorder.record("first reconstruction", first)
    for event in METHODS[settings.method](problem, prior, state):
        yield recorder.record(event.phase, event.volume, **_values(event, problem))
        if event.phase == "sampling":
            store.save(state)
        if control.kept:
            break
    return state.volume, settings


def first_reconstruction(measurement: Measurement, prepared: Preparation, problem: Problem) -> Tensor:
    """The volume that sampling starts from."""
    settings = problem.settings
    if settings.start_from == "fbp":
        return fbp(measurement, prepared)
    if settings.start_from == "tv":
        return last(tv_iterates(problem, settings.tv_weight or 0.0, settings.start_iterations))
    zero = torch.zeros(measurement.volume_shape, device=problem.measured.device)
    return last(least_squares(problem.fitted, problem.measured * problem.used, zero, _START_CG, check=problem.check))


def _values(event: Event, problem: Problem) -> dict[str, Any]:
    """History entry of an event."""
    values: dict[str, Any] = {"t": event.t, "lora_shift": event.lora_shift}
    if event.fit is not None:
        return values | {
            "loss": event.fit.loss,
            "held_out_loss": event.fit.held_out,
            "held_out_loss_without": event.fit.held_out_without,
            "accepted": event.fit.accepted,
        }
    with torch.no_grad():
        values["loss"] = float(problem.residual(event.volume, problem.used))
        if bool(problem.held_out.any()):
            values["held_out_loss"] = float(problem.residual(event.volume, problem.held_out))
    return values


class Checkpoint:
    """File with the state of sampling, so that an interrupted run can go on."""

    def __init__(self, path: str | Path | None, measurement: Measurement, settings: Settings) -> None:
        self._path = None if path is None else Path(path)
        digest = hashlib.sha256(settings.model_dump_json(exclude={"device", "tv_weight"}).encode())
        digest.update(measurement.data.tobytes())
        digest.update(measurement.angles.tobytes())
        self._fingerprint = digest.hexdigest()

    def save(self, state: SamplerState) -> None:
        """Write the state; a file from before is replaced only when the new one is complete."""
        if self._path is None:
            return
        content = {
            "fingerprint": self._fingerprint,
            "x_t": state.x_t,
            "volume": state.volume,
            "generator": state.generator.get_state(),
            "duals": None if state.duals is None else vars(state.duals),
            "adapters": [vars(adapter) for adapter in state.adapters],
            "index": state.index,
        }
        partial = self._path.with_name(self._path.name + ".partial")
        torch.save(content, partial)
        partial.replace(self._path)

    def load(self, device: torch.device) -> SamplerState | None:
        """State of an earlier run, or None if there is no file.

        Raises
        ------
        FileError
            If the file belongs to another scan or other settings, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            content = torch.load(self._path, map_location=device, weights_only=True)
        except Exception as error:  # torch.load raises many types for a damaged file.
            raise FileError(f"resume: {self._path} cannot be read; delete it and start again.") from error
        if content["fingerprint"] != self._fingerprint:
            raise FileError(
                f"resume: {self._path} was written for another scan or other settings; delete it or give the same."
            )
        generator = torch.Generator()
        generator.set_state(content["generator"].cpu())
        return SamplerState(
            x_t=content["x_t"],
            volume=content["volume"],
            generator=generator,
            duals=None if content["duals"] is None else Duals(**content["duals"]),
            adapters=[AdapterState(**adapter) for adapter in content["adapters"]],
            index=content["index"],
        )

    def remove(self) -> None:
        """Delete the file of a run that has ended."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
