"""Train a prior on phantoms or images, with moving average, held-out images, checkpoints and resume.

No scans and no files of images. Runs of the same seed, settings and images give the same prior.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.prior.cuda_graphs import replay_passes
from napari_d3ip.prior.generators import phantom_data
from napari_d3ip.prior.library import is_pipeline
from napari_d3ip.prior.losses import epsilon_loss, held_out_loss
from napari_d3ip.prior.model_card import write_model_card
from napari_d3ip.prior.network import BUILDING, DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.records import CHECKPOINT, TRAINING_RECORD
from napari_d3ip.prior.saving import load_tensors, save_tensors
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.prior.training_data import Replayed, TrainingData, ellipses
from napari_d3ip.prior.training_settings import Intervals, TrainingSettings

# Settings that may change on resume: the length of training, and the decay of the rate until then.
_FREE_TO_CHANGE = ("steps", "minutes", "learning_rate", "decay", "patience")
# A held-out loss that is not lower than an earlier one by this fraction has settled.
_FALL = 0.01


@dataclass(frozen=True)
class Best:
    """Held-out loss of the best weights so far, and their step; 0 is the prior that the training started from."""

    step: int
    held_out_loss: float


@dataclass(frozen=True)
class TrainingProgress:
    """State after a step.

    Parameters
    ----------
    step, total : int
        Steps done, and in all as far as is known.
    loss : float
        Mean training loss since the last report.
    held_out_loss : float or None
        Loss on held-out images, where it was measured.
    best : Best or None
        Best held-out loss so far, from the first measurement on.
    start_loss : float or None
        Held-out loss of the prior that the training started from.
    notes : tuple of str
        What the user should know of the training images.
    """

    step: int
    total: int
    loss: float
    held_out_loss: float | None
    best: Best | None = None
    start_loss: float | None = None
    notes: tuple[str, ...] = ()


def train(
    folder: Path,
    settings: TrainingSettings,
    *,
    data: TrainingData | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    initial: DiffusionPrior | None = None,
    every: Intervals | None = None,
) -> Generator[TrainingProgress, None, None]:
    """Train a prior and write the best of it to ``folder`` as a ``DDPMPipeline``.

    The best are the moving-average weights of the lowest loss on held-out images among those evaluated, the prior that
    the training started from included. Closing the iterator stops the training with a checkpoint; to take what there
    is then, resume it with no more steps than were done.

    Parameters
    ----------
    folder : Path
        Output; also holds ``checkpoint.pt`` (removed at the end), ``training.json`` (settings, images, losses) and a
        model card.
    settings : TrainingSettings
        Settings of the training.
    data : TrainingData, optional
        Training and held-out images; default: phantoms of the kind in the settings.
    device : torch.device or str
        Device; bfloat16 autocast is used on CUDA.
    resume : bool
        Continue from the checkpoint in ``folder``.
    initial : DiffusionPrior, optional
        Start from its weights instead of random ones (fine-tuning); it must be of the same network, but a prior of
        real images may start one of complex images.
    every : Intervals, optional
        Steps between reports, and between checkpoints.

    Yields
    ------
    TrainingProgress
        Every ``every.report`` steps.

    Raises
    ------
    PriorError
        If ``resume`` is set without a checkpoint, or with other images or settings than its own, except for ``steps``,
        ``minutes``, ``learning_rate``, ``decay`` and ``patience``; or ``initial`` has another network; or ``folder``
        holds a finished prior; or the loss is no longer finite.
    FileError
        If ``folder`` is a file, or the checkpoint cannot be written; the previous one is kept.
    """
    if folder.is_file():
        raise FileError(f"{folder} is a file; give a folder for the prior.")
    if not resume and is_pipeline(folder):
        raise PriorError(f"{folder} holds a prior already; choose another folder, or pass it as initial to continue.")
    training = _Training(folder, settings, data or _phantoms(settings), torch.device(device), initial)
    if resume:
        training.resume()
    folder.mkdir(parents=True, exist_ok=True)
    yield from training.run(every or Intervals.from_settings(settings))


def _phantoms(settings: TrainingSettings) -> TrainingData:
    if settings.phantoms is None:
        raise PriorError("phantoms: missing; name a kind, or give images.")
    return phantom_data(settings.phantoms, settings.channels, settings.size)


class _Training:
    """Network, optimizer and averaged weights of a training, and how far it is."""

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        data: TrainingData,
        device: torch.device,
        initial: DiffusionPrior | None,
    ) -> None:
        from diffusers.training_utils import EMAModel

        self.folder, self.settings, self.data, self.device = folder, settings, data, device
        self.known = ellipses(settings.channels, settings.size) if settings.replay else None
        self.images = Replayed(data.training, self.known, settings.replay) if self.known else data.training
        with BUILDING:
            torch.manual_seed(settings.seed)
            self.prior = _untrained(settings, folder.name, device)
        self.unet = self.prior.unet
        self.start: dict[str, Any] | None = None
        if initial is not None:
            _load_weights(self.unet, _extend_channels(initial.unet.state_dict(), self.unet.state_dict()), initial.name)
            self.start = {"prior": Path(initial.name).name}
        self.optimizer = torch.optim.Adam(self.unet.parameters(), lr=settings.learning_rate)
        weights = self.unet.parameters()
        self.average = EMAModel(weights, decay=settings.ema, use_ema_warmup=True, power=3 / 4, foreach=True)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.curve: list[dict[str, float]] = []
        self.step, self.seconds = 0, 0.0
        self.pool: list[Tensor] = []
        self.best: Best | None = None
        self.best_weights: list[Tensor] = []
        self.settled: int | None = None
        self.losses: list[Tensor] = []

    @property
    def plan(self) -> TrainingSettings:
        """Settings with the step at which training ends, which is earlier once the held-out loss has settled."""
        return self.settings if self.settled is None else self.settings.settled_at(self.settled)

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def resume(self) -> None:
        """Go back to the state of the checkpoint.

        Raises
        ------
        PriorError
            If there is none, or it is of another training.
        """
        if not self.checkpoint.exists():
            raise PriorError(f"resume: checkpoint {self.checkpoint} does not exist; start without --resume.")
        state = _load_checkpoint(self.checkpoint, self.device, self.settings)
        if state["data"] != self.data.record:
            raise PriorError(
                f"resume: the training images are not those of {self.checkpoint}; give the same ones, or start again."
            )
        _load_weights(self.unet, state["unet"], str(self.checkpoint))
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"].cpu())
        self.pool, self.start = state["pool"], state["start"]
        self.curve, self.step, self.seconds = state["curve"], state["step"], state["seconds"]
        self.best = None if state["best"] is None else Best(**state["best"])
        self.best_weights, self.settled, self.losses = state["best_weights"], state["settled"], state["losses"]

    def run(self, every: Intervals) -> Generator[TrainingProgress, None, None]:
        """Train to the end, and write the prior."""
        began, first = time.monotonic() - self.seconds, self.step
        self.average.to(self.device)
        if self.start is not None and self.best is None:
            self.start["held_out_loss"] = self._evaluate(every.held_out)
            self.start["known_loss"] = self._known_loss(every.held_out)
        self.prior.train()
        if self.device.type == "cuda":
            replay_passes(self.unet, self.settings)
        is_last = False
        while self.step < self.plan.steps and not is_last:
            self.losses = [*self.losses, self._optimise(time.monotonic() - began)][-every.checkpoint :]
            is_last = self.plan.left(self.step, time.monotonic() - began) <= 0
            held_out = None
            if self.step % every.checkpoint == 0 or is_last:
                held_out = self._evaluate(every.held_out)
                self.seconds = time.monotonic() - began
                self._note(float(torch.stack(self.losses).mean()), held_out)
                self._save()
            if self.step % every.report == 0 or held_out is not None:
                recent = float(torch.stack(self.losses[-every.report :]).mean())
                try:
                    yield self._progress(recent, held_out, is_last)
                except GeneratorExit:
                    if held_out is None:
                        self.seconds = time.monotonic() - began
                        self._save()
                    raise
        self._finish(every)
        if self.step == first:  # It was resumed only to take what there is.
            yield self._progress(math.nan, None, True)

    def _finish(self, every: Intervals) -> None:
        """Write the prior, and then remove the checkpoint, when nothing is lost if it goes."""
        if not self.curve or self.curve[-1]["step"] < self.step:  # It was stopped between two evaluations.
            self._evaluate(every.held_out)
        vars(self.unet).pop("forward", None)
        with torch.no_grad():
            for weight, best in zip(self.unet.parameters(), self.best_weights, strict=True):
                weight.copy_(best)
        self.prior.eval().save(self.folder)
        self._write_record(known_loss=self._known_loss(every.held_out))
        write_model_card(self.prior, self.folder, self.data)
        self.checkpoint.unlink(missing_ok=True)

    def _progress(self, loss: float, held_out: float | None, is_last: bool) -> TrainingProgress:
        total = self.step if is_last else self.plan.steps
        start_loss = None if self.start is None else self.start["held_out_loss"]
        return TrainingProgress(self.step, total, loss, held_out, self.best, start_loss, self.data.notes)

    def _optimise(self, seconds: float) -> Tensor:
        """Take the next step, ``seconds`` after the start, and return its loss."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step, seconds)
        if not self.pool:
            drawn = self.images.draw(settings.pool * settings.batch, self.generator, self.device)
            self.pool = list(drawn.split(settings.batch))
        image = self.pool.pop(0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = epsilon_loss(self.prior, image, self.generator, settings.time_power)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.average.step(self.unet.parameters())
        self.step += 1
        return loss.detach()

    def _evaluate(self, count: int) -> float:
        """Return the loss of the averaged weights on ``count`` held-out images, and keep these if they are the best.

        Raises
        ------
        PriorError
            If it is not finite.
        """
        self.average.store(self.unet.parameters())
        self.average.copy_to(self.unet.parameters())
        value = held_out_loss(self.prior.eval(), self.data.held_out, count=count)
        self.average.restore(self.unet.parameters())
        self.prior.train()
        if not math.isfinite(value):
            raise PriorError(
                f"training: the held-out loss is {value} at step {self.step}; give a lower learning rate."
            )
        if self.best is None or value < self.best.held_out_loss:
            self.best = Best(self.step, value)
            self.best_weights = [weight.detach().clone() for weight in self.average.shadow_params]
        return value

    def _known_loss(self, count: int) -> float | None:
        """Return the loss on images of the kind that is replayed, None if none is."""
        return None if self.known is None else held_out_loss(self.prior.eval(), self.known, count=count)

    def _note(self, loss: float, held_out: float) -> None:
        """Add a point to the curve, and find out whether the held-out loss still falls."""
        patience = self.settings.patience
        earlier = [point["held_out_loss"] for point in self.curve if point["step"] <= self.step - (patience or 0)]
        if self.start is not None:
            earlier.append(self.start["held_out_loss"])
        seconds = round(self.seconds, 1)
        self.curve.append({"step": self.step, "loss": loss, "held_out_loss": held_out, "seconds": seconds})
        if patience is None or self.settled is not None or self.step < patience or not earlier:
            return
        assert self.best is not None
        if self.best.held_out_loss > (1 - _FALL) * min(earlier):
            self.settled = self.step

    def _save(self) -> None:
        """Write the checkpoint, and the record."""
        content = {
            "unet": self.unet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "generator": self.generator.get_state(),
            "pool": self.pool,
            "curve": self.curve,
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "data": self.data.record,
            "start": self.start,
            "best": None if self.best is None else asdict(self.best),
            "best_weights": self.best_weights,
            "settled": self.settled,
            "losses": self.losses,
        }
        save_tensors(content, self.checkpoint)
        self._write_record()

    def _write_record(self, known_loss: float | None = None) -> None:
        record = {
            "settings": asdict(self.settings),
            "images": self.data.record,
            "start": self.start,
            "best": None if self.best is None else asdict(self.best),
            "known_loss": known_loss,
            "settled": self.settled,
            "device": self.device.type,
            "torch": torch.__version__,
            "curve": self.curve,
        }
        (self.folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _untrained(settings: TrainingSettings, name: str, device: torch.device) -> DiffusionPrior:
    """Return a prior of random weights."""
    config = PriorConfig(
        channels=settings.channels,
        patch_size=settings.patch_size,
        # Parts of complex images have either sign: 0 is in the middle of the range.
        low=-1.0 if settings.channels == 1 else 0.0,
    )
    unet = build_unet(settings.width, settings.patch_size, config.channels, settings.size)
    return DiffusionPrior(unet, linear_schedule(), config, name=name).to(device)


def _extend_channels(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Extend the first and last convolution to more image channels; the new weights are random."""
    widened = dict(weights)
    for name in ("conv_in.weight", "conv_out.weight", "conv_out.bias"):
        given, target = weights[name], wanted[name].clone()
        if given.shape != target.shape and all(a <= b for a, b in zip(given.shape, target.shape, strict=True)):
            target[tuple(slice(0, length) for length in given.shape)] = given
            widened[name] = target
    return widened


def _load_checkpoint(path: Path, device: torch.device, settings: TrainingSettings) -> dict[str, Any]:
    """Load a checkpoint, and check that a training with these settings can continue from it."""
    try:
        state = load_tensors(path, device)
    except FileError as error:
        raise PriorError(f"resume: {error}; delete it and start again.") from error
    before = state.get("settings")
    if not isinstance(before, dict) or "data" not in state:
        raise PriorError(f"resume: {path} is not a training checkpoint; delete it and start again.")
    for name, value in asdict(settings).items():
        if name not in _FREE_TO_CHANGE and before.get(name) != value:
            raise PriorError(f"resume: {name} must be {before.get(name)} as in {path}, got {value}.")
    return state


def _load_weights(unet: Any, weights: dict[str, Any], source: str) -> None:
    try:
        unet.load_state_dict(weights)
    except RuntimeError as error:
        raise PriorError(f"{source} holds another network; give the same width and patch size.") from error
