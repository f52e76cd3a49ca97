"""Engine: prepare the problem, drive a method, keep history and checkpoints, score the result."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import Adapter, saved_adapter
from napari_d3ip.adaptation.saved import SavedAdapter
from napari_d3ip.device import describe_device, enough_memory, peak_memory, resolve_device, versions
from napari_d3ip.measurement import FloatArray, KSpace, Measurement
from napari_d3ip.methods.run import DiffusionRun, Event, Run
from napari_d3ip.methods.sampling import initial_state
from napari_d3ip.metrics import check_reference, psnr, ssim
from napari_d3ip.preparation import Preparation, prepare
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.grey import GreyPrior
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction.advice import with_advice
from napari_d3ip.reconstruction.checkpoint import Checkpoint
from napari_d3ip.reconstruction.control import Control, Step
from napari_d3ip.reconstruction.finite import require_finite, require_finite_result
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.reconstruction.progress import Recorder, to_numpy
from napari_d3ip.reconstruction.refit import fit_all_samples, has_samples_to_fit
from napari_d3ip.reconstruction.residual import rms_residuals
from napari_d3ip.reconstruction.resolve import check_start, default_iterations, resolve
from napari_d3ip.reconstruction.result import Reconstruction
from napari_d3ip.reconstruction.start import (
    choose_weights,
    first_reconstruction,
    found_weights,
    replace_regulariser,
    sampling_regulariser,
    settled_start,
    with_sign,
)
from napari_d3ip.reconstruction.verdict import can_compare, compare_with_start, misfit, not_compared
from napari_d3ip.settings import Family, RunSettings, Settings
from napari_d3ip.solvers.problem import Problem


@dataclass(frozen=True)
class Options:
    """What a run takes beside a scan and settings, as `napari_d3ip.iter_reconstruct` documents it.

    ``sampler_seed`` replaces the seed of the settings once the rays or samples held out are drawn.
    """

    reference: FloatArray | None = None
    checkpoint: str | Path | None = None
    resume: bool = False
    regulariser: Any = None
    sampler_seed: int | None = None


@torch.inference_mode(False)
@torch.enable_grad()
def run(
    measurement: Measurement, request: Settings, control: Control, options: Options
) -> Generator[Step, None, Reconstruction]:
    """Reconstruct; body of `napari_d3ip.iter_reconstruct`, which documents it."""
    with enough_memory():
        return (yield from _Engine(measurement, request, control, options).run())


class _Engine:
    """One reconstruction."""

    def __init__(self, measurement: Measurement, request: Settings, control: Control, options: Options) -> None:
        self._began = time.monotonic()
        self._measurement, self._control, self._options = measurement, control, options
        self._device = resolve_device(request.device)
        if options.reference is not None:
            options = replace(options, reference=check_reference(options.reference, measurement.volume_shape))
            self._options = options
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        settings = resolve(request, measurement)
        self._prior = self._load_prior(settings)
        self._prepared = self._prepare(settings)
        self._settings = self._prepared.problem.settings
        self._recorder = Recorder(plan(self._settings, measurement.volume_shape[0]), self._prepared.intensity)

    def _load_prior(self, settings: RunSettings) -> DiffusionPrior | None:
        if not settings.about.needs_prior:
            return None
        prior = load_suited(settings.prior, self._measurement, self._device)
        check_start(settings.sampling.start_t, prior.train_steps)
        if settings.adaptation.adapter is not None and not settings.about.adapts:
            Adapter.create(prior, settings).merge()
        return prior

    def _prepare(self, settings: RunSettings) -> Preparation:
        prepared = prepare(self._measurement, settings, self._device, self._control.check)
        if self._options.regulariser is not None:
            prepared = replace_regulariser(prepared, self._options.regulariser, settings)
        if self._options.sampler_seed is not None:
            settings = settings.updated(seed=self._options.sampler_seed)
            prepared = replace(prepared, problem=replace(prepared.problem, settings=settings))
        return with_sign(prepared)

    def run(self) -> Generator[Step, None, Reconstruction]:
        """Run the method, and return its result or that of its start."""
        adapter: SavedAdapter | None = None
        if self._prior is None:
            task = Run(self._prepared.problem, self._prepared.direct)
            volume = yield from self._drive(task)
            is_classical = self._settings.family is not Family.UNTRAINED
            why = "is a classical reconstruction" if is_classical else "starts from no classical reconstruction"
            outcome = not_compared(self._settings.method, why)
        else:
            task, volume = yield from self._sample(self._prior)
            require_finite(volume, self._settings, self._prior)
            outcome = compare_with_start(self._prepared, task, self._measurement.kind, self._load_again)
            if outcome["returned"] != self._settings.method:
                volume = self._start(task)
            else:
                adapter = self._adapter(task)
        require_finite(volume, self._settings, self._prior)
        final = self._final(task, volume, outcome["returned"])
        require_finite(final, self._settings, self._prior)
        return self._result(volume, final, outcome, self._settings.filled.updated(**task.found), adapter)

    def _start(self, task: DiffusionRun) -> Tensor:
        """Return the volume that sampling started from, settled unless the run is to end now."""
        if self._control.kept:
            return task.state.first
        return self._settled(task.problem, task.state.first)

    def _settled(self, problem: Problem, first: Tensor) -> Tensor:
        most = default_iterations("tv", self._measurement)
        return settled_start(self._prepared, problem, first, most)

    def _final(self, task: Run, volume: Tensor, returned: str) -> Tensor:
        """Fit the held-out samples, too, unless the run is to end now, and clear what no coil sees."""
        if not self._control.kept and has_samples_to_fit(self._prepared):
            if returned != self._settings.method:
                volume = self._settled(task.problem.with_held_out(), volume)
            else:
                volume = fit_all_samples(task, volume)
        maps = self._prepared.coil_maps
        if maps is None or self._settings.family is Family.DIRECT:
            return volume
        # Where no coil sees anything, no data contradict what a regularizer spreads there.
        return volume * (maps.abs().amax(dim=1) > 0)

    def _load_again(self) -> DiffusionPrior:
        """Load the prior without the adapters of single slices, which stay inside its network."""
        if self._settings.about.adapts == "slices" or self._prior is None:
            return load_suited(self._settings.prior, self._measurement, self._device)
        return self._prior

    def _sample(self, prior: DiffusionPrior) -> Generator[Step, None, tuple[DiffusionRun, Tensor]]:
        """Reconstruct classically, then run one of the diffusion methods from there."""
        problem = self._weighted(self._prepared.problem)
        store = Checkpoint(self._options.checkpoint, self._measurement, self._settings.filled)
        resumed = store.load(problem) if self._options.resume else None
        if resumed is None:
            first, duals = first_reconstruction(self._prepared, problem)
            state = initial_state(problem, prior, first)
            state.duals = duals
        else:
            state, history = resumed
            self._recorder.resume(history)
        task = DiffusionRun(problem, self._prepared.direct, found_weights(problem), prior=prior, state=state)
        if resumed is None:
            yield self._recorder.record("first reconstruction", state.first)
            if self._control.kept or (self._settings.validation.guard and not can_compare(self._prepared)):
                return task, state.volume
        yield from self._drive(task, store)
        return task, state.volume

    def _weighted(self, problem: Problem) -> Problem:
        """Return the problem of sampling, with its weights and its regularizer."""
        weights = choose_weights(problem)
        return replace(problem, weights=weights, regulariser=sampling_regulariser(problem, weights))

    def _drive(self, task: Run, store: Checkpoint | None = None) -> Generator[Step, None, Tensor]:
        """Run the method to its end or until it is stopped, and return its volume."""
        volume = task.problem.start()
        for event in self._settings.about.load()(task):
            require_finite(event.volume, self._settings, self._prior)
            step = self._recorder.record(event.phase, event.volume, **_values(event, task.problem))
            if store is not None and isinstance(task, DiffusionRun) and event.phase == "sampling":
                store.save(task.state, task.problem, self._recorder.history)
            volume = event.volume if event.best is None else event.best
            yield step
            if self._control.kept:
                break
        return volume

    def _adapter(self, task: DiffusionRun) -> SavedAdapter | None:
        """Return the adapters of a volume, to keep."""
        if self._settings.about.adapts != "volume" or not task.state.adapters:
            return None
        about = {
            "kind": self._measurement.kind,
            "prior": task.prior.name,
            "source": self._measurement.source,
            "settings": self._settings.filled.updated(**task.found).model_dump(mode="json"),
        }
        return saved_adapter(task.prior, task.state.adapters[0], self._settings.adaptation.layers, about)

    def _result(
        self,
        volume: Tensor,
        final: Tensor,
        outcome: dict[str, Any],
        settings: Settings,
        adapter: SavedAdapter | None,
    ) -> Reconstruction:
        """Return the final volume; residuals and misfit are those of ``volume``, which did without held-out data."""
        prepared, options, history = self._prepared, self._options, self._recorder.history
        physical = to_numpy(final * prepared.intensity)
        reference = options.reference
        metrics = {
            "method": settings.method,
            "shape": list(physical.shape),
            "seconds": time.monotonic() - self._began + self._recorder.seconds_before,
            "adapt_seconds": self._recorder.seconds("adaptation", "refinement"),
            "sample_seconds": self._recorder.seconds("sampling"),
            "peak_memory_bytes": peak_memory(self._device),
            "device": describe_device(self._device),
            "seed": settings.seed,
            **rms_residuals(prepared, volume),
            **outcome,
            "misfit": with_advice(
                misfit(self._measurement.kind, self._settings.family, prepared, volume),
                self._measurement,
                self._settings.family,
                self._control.check,
            ),
            **_adaptation(history),
            "psnr": None if reference is None else psnr(physical, reference),
            "ssim": None if reference is None else ssim(physical, reference),
            "stopped_early": self._control.kept,
            "regulariser": None if options.regulariser is None else type(options.regulariser).__name__,
            "versions": versions(),
        }
        phase = coil_maps = None
        if final.is_complex():
            phase = to_numpy((final if prepared.phase is None else final * prepared.phase).angle())
        require_finite_result(physical, phase, metrics)
        if prepared.coil_maps is not None:
            coil_maps = prepared.coil_maps.cpu().numpy().copy()  # Maps are kept for the next run.
        return Reconstruction(physical, settings, history, metrics, self._measurement, phase, coil_maps, adapter)


def load_suited(name: str, measurement: Measurement, device: torch.device) -> DiffusionPrior:
    """Load a prior for the images of a kind of measurement.

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
    """Return the largest change of the weights that sampling used, and how many rounds of adaptation were accepted."""
    shifts = [entry["lora_shift"] for entry in history if entry["phase"] == "sampling" and entry.get("lora_shift")]
    rounds = [entry["accepted"] for entry in history if entry["phase"] == "adaptation"]
    return {
        "lora_shift": max(shifts, default=0.0) if rounds else None,
        "adaptations": len(rounds),
        "adaptations_accepted": sum(rounds),
        "adaptation_ended": any(entry.get("ended") for entry in history),
    }


def _values(event: Event, problem: Problem) -> dict[str, Any]:
    """Return the history entry of an event."""
    values: dict[str, Any] = {} if event.t is None else {"t": event.t, "lora_shift": event.lora_shift}
    if event.fit is not None:
        return values | {
            "loss": event.fit.loss,
            "held_out_loss": event.fit.held_out,
            "held_out_loss_without": event.fit.held_out_without,
            "accepted": event.fit.accepted,
            "ended": event.fit.ended,
        }
    losses = event.losses
    if event.t is not None:
        with torch.no_grad():
            losses = problem.losses(event.volume)
    if losses is None:
        return values
    return values | {"loss": losses[0]} | ({} if losses[1] is None else {"held_out_loss": losses[1]})
