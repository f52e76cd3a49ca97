"""Runs a reconstruction: prepares the problem, drives a method, keeps history and checkpoints, scores the result."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_d3ip.adaptation.adapter import Adapter, saved_adapter
from napari_d3ip.adaptation.saved import SavedAdapter
from napari_d3ip.device import describe_device, enough_memory, peak_memory, resolve_device, versions
from napari_d3ip.measurement import FloatArray, KSpace, Measurement
from napari_d3ip.methods.diffusion import METHODS
from napari_d3ip.methods.sampling import Event, SamplerState, initial_state
from napari_d3ip.metrics import check_reference, psnr, ssim
from napari_d3ip.preparation import Preparation, prepare
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.grey import GreyPrior
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.reconstruction.checkpoint import Checkpoint
from napari_d3ip.reconstruction.classical import run_classical, run_untrained
from napari_d3ip.reconstruction.finite import require_finite, require_finite_result
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.reconstruction.progress import Recorder, to_numpy
from napari_d3ip.reconstruction.residual import rms_residuals
from napari_d3ip.reconstruction.resolve import check_start, resolve
from napari_d3ip.reconstruction.start import (
    choose_weights,
    first_reconstruction,
    replace_regulariser,
    sampling_regulariser,
    start_name,
)
from napari_d3ip.reconstruction.verdict import can_compare, compare, misfit
from napari_d3ip.settings import (
    ADAPTIVE_METHODS,
    DIFFUSION_METHODS,
    SLICEWISE_METHODS,
    UNTRAINED_METHODS,
    VOLUME_METHODS,
    Settings,
)
from napari_d3ip.solvers.problem import Problem


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
        prepared = prepare(measurement, settings, device, control.check)
        if regulariser is not None:
            prepared = replace_regulariser(prepared, regulariser, settings)
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
            volume, settings = yield from run_untrained(prepared.problem, settings, recorder, control)
            outcome = _uncompared(settings.method, "starts from no classical reconstruction")
        else:
            volume, settings = yield from run_classical(prepared, settings, recorder, control)
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
            **rms_residuals(prepared, volume),
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


def _adaptation(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Largest change of the weights that sampling used, and how many rounds of adaptation were accepted."""
    shifts = [entry["lora_shift"] for entry in history if entry["phase"] == "sampling" and entry.get("lora_shift")]
    verdicts = [entry["accepted"] for entry in history if entry["phase"] == "adaptation"]
    return {
        "lora_shift": max(shifts, default=0.0) if verdicts else None,
        "adaptations": len(verdicts),
        "adaptations_accepted": sum(verdicts),
    }


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
    settings = choose_weights(prepared.problem, settings)
    problem = replace(
        prepared.problem,
        settings=settings,
        regulariser=sampling_regulariser(prepared.problem, settings),
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
    start = start_name(settings, measurement.kind)
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
