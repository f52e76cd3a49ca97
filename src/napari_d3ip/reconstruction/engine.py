"""Runs a reconstruction: prepares the problem, drives a method, keeps history and checkpoints, scores the result."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.adaptation.adapt import Adapter, saved_adapter
from napari_d3ip.adaptation.saved import SavedAdapter
from napari_d3ip.device import describe_device, enough_memory, peak_memory, resolve_device, versions
from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import ComplexArray, KSpace, Measurement
from napari_d3ip.methods.sampling import METHODS, Event, SamplerState, initial_state
from napari_d3ip.methods.untrained import LOOKS, best_of, dip, self_diffusion
from napari_d3ip.metrics import check_reference, psnr, ssim
from napari_d3ip.preparation import Preparation, prepare
from napari_d3ip.preparation.weights import (
    beside_wavelets,
    choose_phase_constraint,
    choose_wavelet_factor,
    choose_weight,
    choose_weight_and_phase_constraint,
    tv_iterates,
    wavelet_iterates,
)
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.grey import GreyPrior
from napari_d3ip.prior.network import DiffusionPrior, load_prior
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.reconstruction.checkpoint import Checkpoint
from napari_d3ip.reconstruction.finite import require_finite, require_finite_result
from napari_d3ip.reconstruction.progress import Recorder, to_numpy
from napari_d3ip.reconstruction.resolve import check_start, resolve
from napari_d3ip.reconstruction.verdict import can_compare, compare, misfit
from napari_d3ip.settings import (
    ADAPTIVE_METHODS,
    COUPLED_METHODS,
    DIFFUSION_METHODS,
    DIRECT_METHODS,
    LEAST_SQUARES_METHODS,
    SLICEWISE_METHODS,
    UNTRAINED_METHODS,
    VOLUME_METHODS,
    Settings,
    parse_slices,
)
from napari_d3ip.solvers.classical import last, least_squares
from napari_d3ip.solvers.external import as_proximal_map
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Duals, Regulariser

FloatArray = npt.NDArray[np.float32]
_PATIENCE = 5
# Total variation has settled where so many iterations change the volume by no more than this part of it.
_SETTLING, _SETTLED = 10, 5e-4
_START_CG = 10
_DENOISER_ERROR = 0.05


@torch.inference_mode(False)
@torch.enable_grad()
def run(
    measurement: Measurement,
    settings: Settings,
    reference: FloatArray | None,
    control: Control,
    checkpoint: str | Path | None,
    resume: bool,
    sampler_seed: int | None = None,
    regulariser: Any = None,
) -> Generator[Step, None, Reconstruction]:
    """Body of `napari_d3ip.iter_reconstruct`, which documents it.

    ``sampler_seed`` replaces the seed of the settings once the rays or samples held out are drawn.
    """
    with enough_memory():
        began = time.monotonic()
        device = resolve_device(settings.device)
        if reference is not None:
            reference = check_reference(reference, measurement.volume_shape)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        settings = resolve(settings, measurement)
        prior = load_suited(settings.prior, measurement, device) if settings.method in DIFFUSION_METHODS else None
        if prior is not None:
            check_start(settings, prior.train_steps)
        if prior is not None and settings.adapter is not None and settings.method not in ADAPTIVE_METHODS:
            Adapter.of(prior, settings).merge()
        prepared = prepare(measurement, settings, device, control)
        if regulariser is not None:
            prepared = _with_regulariser(prepared, regulariser, settings)
        adapter: SavedAdapter | None = None
        if sampler_seed is not None:
            settings = settings.updated(seed=sampler_seed)
            prepared = replace(prepared, problem=replace(prepared.problem, settings=settings))
        recorder = Recorder(plan(settings, measurement.volume_shape[0]), prepared.intensity)
        outcome: dict[str, Any] = _uncompared(settings.method, "is a classical reconstruction")
        if prior is not None:
            store = Checkpoint(checkpoint, measurement, settings)
            state, problem = yield from _sample(prepared, settings, prior, recorder, control, store, resume)
            settings, volume = problem.settings, state.volume
            require_finite(volume, settings, prior)
            outcome = _compared(prepared, problem, prior, state, measurement)
            if outcome["returned"] != settings.method:
                volume = state.first
            elif settings.method in VOLUME_METHODS and len(state.adapters) == 1:
                about = {
                    "kind": measurement.kind,
                    "prior": prior.name,
                    "source": measurement.source,
                    "settings": settings.model_dump(mode="json"),
                }
                adapter = saved_adapter(prior, state.adapters[0], settings.adapt_layers, about)
        elif settings.method in UNTRAINED_METHODS:
            volume, settings = yield from _untrained(prepared.problem, settings, recorder, control)
            outcome = _uncompared(settings.method, "starts from no classical reconstruction")
        else:
            volume, settings = yield from _classical(prepared, settings, recorder, control)
        require_finite(volume, settings, prior)
        physical = to_numpy(volume * prepared.intensity)
        metrics = {
            "method": settings.method,
            "shape": list(physical.shape),
            "seconds": time.monotonic() - began + recorder.seconds_before,
            "adapt_seconds": recorder.seconds("adaptation", "refinement"),
            "sample_seconds": recorder.seconds("sampling"),
            "peak_memory_bytes": peak_memory(device),
            "device": describe_device(device),
            "seed": settings.seed,
            **_residuals(prepared, volume),
            **outcome,
            "misfit": misfit(measurement.kind, settings.method, prepared, volume),
            **_adaptation(recorder.history),
            "psnr": None if reference is None else psnr(physical, reference),
            "ssim": None if reference is None else ssim(physical, reference),
            "stopped_early": control.kept,
            "regulariser": None if regulariser is None else type(regulariser).__name__,
            "versions": versions(),
        }
        phase = coil_maps = None
        if volume.is_complex():
            phase = to_numpy((volume if prepared.phase is None else volume * prepared.phase).angle())
        require_finite_result(physical, phase, metrics)
        if prepared.coil_maps is not None:
            coil_maps = prepared.coil_maps.cpu().numpy().copy()  # Maps are kept for the next run.
        return Reconstruction(physical, settings, recorder.history, metrics, measurement, phase, coil_maps, adapter)


@torch.inference_mode(False)
@enough_memory()
def residual(result: Reconstruction, control: Control) -> FloatArray | ComplexArray:
    """Body of `Reconstruction.residual`, which documents it."""
    measurement, settings = result.measurement, result.settings
    if result.volume.shape != measurement.volume_shape:
        raise MeasurementError(
            f"volume: shape {result.volume.shape} is not {measurement.volume_shape}, that of {measurement.source}; "
            "take the volume as it was reconstructed."
        )
    device = resolve_device(settings.device)
    prepared = prepare(measurement, settings, device, control)
    problem = prepared.problem
    volume = torch.tensor(result.volume, device=device) / prepared.intensity
    if problem.operator.domain_dtype.is_complex:
        if result.phase is None:
            raise MeasurementError("phase: the result does not hold that of its image; reconstruct it again.")
        volume = torch.polar(volume, torch.tensor(result.phase, device=device))
        volume = volume if prepared.phase is None else volume * prepared.phase.conj()
    measured = (problem.used + problem.held_out + prepared.unseen) > 0
    with torch.no_grad():
        difference = (problem.operator(volume) - problem.measured) * measured / problem.noise
    array: FloatArray | ComplexArray = difference.cpu().numpy()
    return array


def load_suited(name: str, measurement: Measurement, device: torch.device) -> DiffusionPrior:
    """Prior for the images of a kind of measurement.

    Raises
    ------
    PriorError
        If it cannot be loaded or its channels do not fit.
    """
    prior = load_prior(name, device)
    if isinstance(measurement, KSpace):
        return ComplexPrior(prior)
    return prior if prior.config.channels == 1 else GreyPrior(prior)


def plan(settings: Settings, slices: int, groups: int = 0) -> list[str]:
    """Phases of a run in order, for progress and ETA; with the number of ``groups`` of slices once it is known."""
    if settings.method in UNTRAINED_METHODS:
        return ["iteration"] * LOOKS
    if settings.method not in DIFFUSION_METHODS:
        return ["iteration"] * (1 if settings.method in DIRECT_METHODS else settings.iterations or 1)
    phases, groups = ["first reconstruction"], groups or min(settings.adapt_groups, slices)
    for index in range(settings.steps or 0):
        if settings.adapts_before(index):
            phases += ["adaptation"] * (slices if settings.method in SLICEWISE_METHODS else groups)
        if settings.method in VOLUME_METHODS and settings.refine_steps:
            phases += ["refinement"] * len(range(slices)[parse_slices(settings.refine_slices)])
        phases.append("sampling")
    return phases


def _residuals(prepared: Preparation, volume: Tensor) -> dict[str, float | None]:
    """Root mean square residuals in units of the noise level, on the rays fitted and on those never fitted."""
    problem, unseen = prepared.problem, prepared.unseen
    return {
        "noise_level": prepared.noise_level,
        "residual": float(problem.residual(volume, problem.used)) ** 0.5,
        "held_out_residual": (float(problem.residual(volume, unseen)) ** 0.5 if bool(unseen.any()) else None),
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


def _classical(
    prepared: Preparation, settings: Settings, recorder: Recorder, control: Control
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """Direct, least squares, total variation or wavelets."""
    problem = prepared.problem
    start = problem.start()
    if settings.method in DIRECT_METHODS:
        volume = prepared.direct()
        yield recorder.record("iteration", volume)
        return volume, settings
    if settings.method in LEAST_SQUARES_METHODS:
        best, best_loss, worse = start, float("inf"), 0
        for volume in least_squares(
            problem.fitted, problem.measured * problem.used, start, settings.iterations or 1, check=control.check
        ):
            require_finite(volume, settings)  # A loss that is not a number would leave the start as the best.
            loss, held_out = problem.losses(volume)
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
    field, iterates = (
        ("wavelet_weight", wavelet_iterates) if settings.method == "l1-wavelet" else ("tv_weight", tv_iterates)
    )
    if settings.method == "tgv":
        problem = replace(problem, regulariser=replace(problem.regulariser, order=2))
    given: float | None = getattr(settings, field)
    weight = choose_weight(problem, iterates) if given is None else given
    volume = earlier = start
    for index, volume in enumerate(iterates(problem, weight, settings.iterations or 1), start=1):
        loss, held_out = problem.losses(volume)
        yield recorder.record("iteration", volume, loss=loss, held_out_loss=held_out)
        if control.kept:
            break
        if settings.method != "l1-wavelet" and index % _SETTLING == 0:
            if bool(torch.linalg.vector_norm(volume - earlier) <= _SETTLED * torch.linalg.vector_norm(volume)):
                break
            earlier = volume
    return volume, settings.updated(**{field: weight})


def _untrained(
    problem: Problem, settings: Settings, recorder: Recorder, control: Control
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """A network of random weights, stopped by held-out rays."""
    if settings.method == "self-diffusion":
        looks = self_diffusion(problem)
    elif settings.method == "dip":
        looks = dip(problem)
    else:
        if settings.tv_weight is None:
            settings = settings.updated(tv_weight=choose_weight(problem))
        looks = dip(problem, tv_weight=settings.tv_weight or 0.0)
    volume = problem.zeros()
    for look, best in best_of(looks):
        volume = best.volume
        yield recorder.record("iteration", look.volume, loss=look.loss, held_out_loss=look.held_out)
        if control.kept:
            break
    return volume, settings


def _sample(
    prepared: Preparation,
    settings: Settings,
    prior: DiffusionPrior,
    recorder: Recorder,
    control: Control,
    store: Checkpoint,
    resume: bool,
) -> Generator[Step, None, tuple[SamplerState, Problem]]:
    """First reconstruction, then one of the diffusion methods."""
    settings = _weighted(prepared.problem, settings)
    problem = replace(
        prepared.problem,
        settings=settings,
        regulariser=_regulariser_of_sampling(prepared.problem, settings),
    )
    resumed = store.load(problem) if resume else None
    if resumed is None:
        first, duals = first_reconstruction(prepared, problem)
        state = initial_state(problem, prior, first)
        state.duals = duals
        yield recorder.record("first reconstruction", first)
        if control.kept or (settings.guard and not can_compare(prepared)):
            return state, problem
    else:
        state, history = resumed
        recorder.go_on(history)
    groups = 0
    for event in METHODS[settings.method](problem, prior, state):
        if len(state.groups) != groups:  # Slices that look alike may make fewer than were asked for.
            groups = len(state.groups)
            recorder.replan(plan(settings, len(state.x_t), groups))
        require_finite(event.volume, settings, prior)
        step = recorder.record(event.phase, event.volume, **_values(event, problem))
        if event.phase == "sampling":
            store.save(state, problem, recorder.history)
        yield step
        if control.kept:
            break
    return state, problem


def _compared(
    prepared: Preparation, problem: Problem, prior: DiffusionPrior, state: SamplerState, measurement: Measurement
) -> dict[str, Any]:
    """Return what the comparison with the first reconstruction says, as `Reconstruction.metrics` has it."""
    settings = problem.settings
    start = _start_name(settings, measurement.kind)
    if not settings.guard:
        return _uncompared(settings.method, f"was not compared with {start}, since guard is off")
    if not can_compare(prepared):
        why = (
            f"over {prepared.directions:.0f}° no data can show what {settings.method} would add to the missing "
            f"directions, so it was not run and the volume of {start} is returned; guard=false runs it"
        )
        return {**_uncompared(start, why), "verdict": f"{why[0].upper()}{why[1:]}."}
    if state.index == 0:
        return {**_uncompared(start, "is the start of the run, which was stopped there"), "returned": start}

    def bare_prior() -> DiffusionPrior:
        if settings.method in SLICEWISE_METHODS:  # Whose adapters are inside the network.
            return load_suited(settings.prior, measurement, problem.measured.device)
        return prior

    comparison = compare(prepared, problem, state, bare_prior, is_complete=state.index == settings.steps)
    if comparison is None:
        return _uncompared(settings.method, f"was not compared with {start}, since no data were held out")
    return {
        "verdict": comparison.sentence(settings.method, start),
        "returned": start if comparison.is_worse else settings.method,
        "gain": comparison.gain,
        "gain_deviation": comparison.deviation if math.isfinite(comparison.deviation) else None,
    }


def _uncompared(method: str, why: str) -> dict[str, Any]:
    return {"verdict": f"{method} {why}.", "returned": method, "gain": None, "gain_deviation": None}


def _start_name(settings: Settings, kind: str) -> str:
    """Return the method that the first reconstruction is."""
    is_kspace = kind == "kspace"
    if settings.start_from == "tv":
        return "tgv" if settings.coupling == "tgv" else "tv"
    if settings.start_from == "cg":
        return "sense" if is_kspace else "cg"
    return {"sinogram": "fbp", "kspace": "zero-filled"}.get(kind, "direct")


def _weighted(problem: Problem, settings: Settings) -> Settings:
    """Settings with the weights that were left open, chosen from the scan."""
    settings = _with_weights_of_constraints(problem, settings)
    open_wavelets = settings.wavelet_factor is None and settings.coupling == "tv3d"
    if open_wavelets and problem.operator.domain_dtype.is_complex and settings.method in COUPLED_METHODS:
        problem = replace(problem, regulariser=_first_regulariser(problem, settings))
        settings = settings.updated(wavelet_factor=choose_wavelet_factor(problem, settings.tv_weight or 0.0))
    return settings


def _with_weights_of_constraints(problem: Problem, settings: Settings) -> Settings:
    """Settings with the weights of total variation, of the phase and of closeness to the denoised image."""
    if settings.proximal_weight is None:
        settings = settings.updated(proximal_weight=_proximal_weight(problem))
    wants_weight = settings.tv_weight is None and (settings.coupling != "none" or settings.start_from == "tv")
    if settings.phase_constraint is not None or not (
        settings.remove_phase and problem.operator.domain_dtype.is_complex
    ):
        settings = settings.updated(phase_constraint=settings.phase_constraint or 0.0)
        if wants_weight:
            regularised = replace(problem, regulariser=_first_regulariser(problem, settings))
            settings = settings.updated(tv_weight=choose_weight(regularised))
        return settings
    problem = replace(problem, regulariser=_first_regulariser(problem, settings))
    if wants_weight:
        weight, constraint = choose_weight_and_phase_constraint(problem)
        return settings.updated(tv_weight=weight, phase_constraint=constraint)
    return settings.updated(phase_constraint=choose_phase_constraint(problem, settings.tv_weight or 0.0))


def _with_regulariser(prepared: Preparation, part: Any, settings: Settings) -> Preparation:
    """Someone's proximal map or denoiser in place of total variation.

    Raises
    ------
    SettingsError
        If it is none, or the method has no regulariser whose part it could take.
    """
    takes_part = settings.method == "tv" or settings.method in COUPLED_METHODS
    if not takes_part or (settings.method != "tv" and settings.coupling == "none"):
        raise SettingsError(
            f"regulariser: {settings.method} with coupling {settings.coupling} has none to take the part of; use tv, "
            "or a diffusion method with another coupling."
        )
    problem = prepared.problem
    regulariser = replace(problem.regulariser, proximal_map=as_proximal_map(part))
    return replace(prepared, problem=replace(problem, regulariser=regulariser))


def _first_regulariser(problem: Problem, settings: Settings) -> Regulariser:
    """Terms beside the data in the first reconstruction."""
    return replace(
        problem.regulariser,
        weight=settings.tv_weight or 0.0,
        nonnegative=settings.nonnegative,
        imaginary_weight=settings.phase_constraint or 0.0,
        huber=settings.tv_huber,
        order=2 if settings.coupling == "tgv" else 1,
    )


def _regulariser_of_sampling(problem: Problem, settings: Settings) -> Regulariser:
    """Return the terms beside the data in data consistency."""
    factor = 0.0 if settings.coupling == "none" else settings.tv_factor or 0.0
    regulariser = replace(
        _first_regulariser(problem, settings),
        axes=(0,) if settings.coupling == "tv-z" else (0, 1, 2),
        weight=factor * (settings.tv_weight or 0.0),
        proximal_weight=settings.proximal_weight or 0.0,
    )
    wavelets = (settings.wavelet_factor or 0.0) if settings.coupling == "tv3d" else 0.0
    return beside_wavelets(regulariser, wavelets / factor) if factor else regulariser


def _proximal_weight(problem: Problem) -> float:
    """Weight of staying close to the denoised image: the noise's variance over that of the denoiser's error."""
    return (problem.noise / _DENOISER_ERROR) ** 2


def first_reconstruction(prepared: Preparation, problem: Problem) -> tuple[Tensor, Duals | None]:
    """The volume that sampling starts from, and the solver's duals where data consistency can go on with them."""
    settings = problem.settings
    if settings.start_from in ("fbp", "noise"):
        return prepared.direct(), None
    start = problem.start()
    if settings.start_from == "cg":
        measured = problem.measured * problem.used
        return last(least_squares(problem.fitted, measured, start, _START_CG, check=problem.check)), None
    volume, duals = problem.total_variation(
        start, settings.start_iterations or 1, _first_regulariser(prepared.problem, settings)
    )
    # Without them data consistency would forget the total variation it had reached and begin again.
    return volume, duals if duals is not None and duals.suit(problem.regulariser) else None


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
        values["loss"], held_out = problem.losses(event.volume)
    if held_out is not None:
        values["held_out_loss"] = held_out
    return values
