"""Train a prior on random phantoms, with moving average, checkpoints and resume.

Phantoms and networks; no scans. Runs of the same seed and settings use the same phantoms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.prior.library import is_pipeline
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.phantoms import phantoms_of
from napari_d3ip.prior.saving import load_tensors, save_tensors
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.prior.training_settings import TrainingSettings

_HELD_OUT_SEED = 2**31 - 1
_CHECKPOINT = "checkpoint.pt"
# Settings that may change on resume: the length of training, and the decay of the rate until then.
_FREE_TO_CHANGE = ("steps", "minutes", "learning_rate", "decay")
TRAINING_RECORD = "training.json"


@dataclass(frozen=True)
class TrainingProgress:
    """State after a step: mean loss since the last report and, when measured, the loss on held-out phantoms."""

    step: int
    total: int
    loss: float
    held_out_loss: float | None


class Intervals(NamedTuple):
    """Steps between reports, and between checkpoints with a held-out evaluation."""

    report: int = 50
    checkpoint: int = 500


USUAL_INTERVALS = Intervals()


def epsilon_loss(prior: DiffusionPrior, image: Tensor, generator: torch.Generator, time_power: float = 1.0) -> Tensor:
    """Compute the mean squared error of the predicted noise (Ho et al. 2020, eq. 14), t stratified over the batch.

    ``time_power`` as in `TrainingSettings`; the reported loss of a prior is with 1, uniform times.
    """
    count, total = image.shape[0], prior.train_steps
    offset = torch.rand(1, generator=generator, dtype=torch.float32)
    strata = (torch.arange(count) + offset) / count
    timestep = (strata**time_power * total).long().clamp_(max=total - 1).to(image.device)
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float32).to(image.device)
    alpha_bar = prior.alphas_cumprod[timestep][:, None, None, None]
    noisy = alpha_bar.sqrt() * prior.normalise(image) + (1 - alpha_bar).sqrt() * noise
    return F.mse_loss(prior.epsilon(noisy, timestep), noise)


@torch.no_grad()
def held_out_loss(
    prior: DiffusionPrior, size: int, kind: str = "ellipses", *, count: int = 256, batch: int = 32
) -> float:
    """Compute the mean epsilon loss on ``count`` validation phantoms, of a seed that training never uses."""
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    phantoms = phantoms_of(kind, prior.config.channels, size)
    device = prior.alphas_cumprod.device
    losses = [epsilon_loss(prior, phantoms.draw(batch, generator, device), generator) for _ in range(count // batch)]
    return float(torch.stack(losses).mean())


def train(
    folder: Path,
    settings: TrainingSettings,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    initial: DiffusionPrior | None = None,
    every: Intervals = USUAL_INTERVALS,
    evaluate: Callable[[DiffusionPrior, int, str], float] = held_out_loss,
) -> Iterator[TrainingProgress]:
    """Train a phantom prior and write it to ``folder`` as a ``DDPMPipeline``.

    Parameters
    ----------
    folder : Path
        Output; also holds ``checkpoint.pt`` (removed at the end) and ``training.json`` (settings, loss curve).
    settings : TrainingSettings
        Settings of the training.
    device : torch.device or str
        Device; bfloat16 autocast is used on CUDA.
    resume : bool
        Continue from the checkpoint in ``folder``.
    initial : DiffusionPrior, optional
        Start from its weights instead of random ones (fine-tuning); it must be of the same network, but a prior of
        real images may start one of complex images.
    every : Intervals
        Steps between reports, and between checkpoints.
    evaluate : callable
        Computes the validation loss of a prior at a size on a kind of phantoms.

    Yields
    ------
    TrainingProgress
        Every ``every.report`` steps.

    Raises
    ------
    PriorError
        If ``resume`` is set without a checkpoint, or with other settings than its own, except for ``steps``,
        ``minutes``, ``learning_rate`` and ``decay``; or ``initial`` has another network; or ``folder`` holds a
        finished prior.
    FileError
        If ``folder`` is a file, or the checkpoint cannot be written; the previous one is kept.
    """
    if folder.is_file():
        raise FileError(f"{folder} is a file; give a folder for the prior.")
    if not resume and is_pipeline(folder):
        raise PriorError(f"{folder} holds a prior already; choose another folder, or pass it as initial to continue.")
    training = _Training(folder, settings, torch.device(device), initial)
    if resume:
        training.resume()
    folder.mkdir(parents=True, exist_ok=True)
    yield from training.run(every, evaluate)


class _Training:
    """Network, optimizer and averaged weights of a training, and how far it is."""

    def __init__(
        self, folder: Path, settings: TrainingSettings, device: torch.device, initial: DiffusionPrior | None
    ) -> None:
        from diffusers.training_utils import EMAModel

        self.folder, self.settings, self.device = folder, settings, device
        self.phantoms = phantoms_of(settings.phantoms, settings.channels, settings.size)
        torch.manual_seed(settings.seed)
        self.prior = _untrained(settings, folder.name, device)
        self.unet = self.prior.unet
        if initial is not None:
            _load_weights(self.unet, _extend_channels(initial.unet.state_dict(), self.unet.state_dict()), initial.name)
        self.optimizer = torch.optim.Adam(self.unet.parameters(), lr=settings.learning_rate)
        weights = self.unet.parameters()
        self.average = EMAModel(weights, decay=settings.ema, use_ema_warmup=True, power=3 / 4, foreach=True)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.curve: list[dict[str, float]] = []
        self.step, self.seconds = 0, 0.0
        self.pool: list[Tensor] = []

    @property
    def checkpoint(self) -> Path:
        return self.folder / _CHECKPOINT

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
        _load_weights(self.unet, state["unet"], str(self.checkpoint))
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"].cpu())
        self.pool = state["pool"]
        self.curve, self.step, self.seconds = state["curve"], state["step"], state["seconds"]

    def run(
        self, every: Intervals, evaluate: Callable[[DiffusionPrior, int, str], float]
    ) -> Iterator[TrainingProgress]:
        """Train to the end, and write the prior."""
        began, losses = time.monotonic() - self.seconds, []
        self.average.to(self.device)
        self.prior.train()
        if self.device.type == "cuda":
            _replay(self.unet, self.settings)
        is_last = False
        while self.step < self.settings.steps and not is_last:
            losses.append(self._optimise(time.monotonic() - began))
            is_last = self.settings.left(self.step, time.monotonic() - began) <= 0
            held_out = None
            if self.step % every.checkpoint == 0 or is_last:
                held_out = self._evaluate(evaluate)
                self.seconds = time.monotonic() - began
                self._save(float(torch.stack(losses[-every.checkpoint :]).mean()), held_out)
            if self.step % every.report == 0 or held_out is not None:
                recent = float(torch.stack(losses[-every.report :]).mean())
                losses = losses[-every.checkpoint :]
                yield TrainingProgress(self.step, self.step if is_last else self.settings.steps, recent, held_out)
        self._finish()

    def _optimise(self, seconds: float) -> Tensor:
        """Take the next step, ``seconds`` after the start, and return its loss."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step, seconds)
        if not self.pool:
            drawn = self.phantoms.draw(settings.pool * settings.batch, self.generator, self.device)
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

    def _evaluate(self, evaluate: Callable[[DiffusionPrior, int, str], float]) -> float:
        """Return the held-out loss of the averaged weights."""
        self.average.store(self.unet.parameters())
        self.average.copy_to(self.unet.parameters())
        value = evaluate(self.prior.eval(), self.settings.size, self.settings.phantoms)
        self.average.restore(self.unet.parameters())
        self.prior.train()
        return value

    def _save(self, loss: float, held_out: float) -> None:
        """Write the checkpoint, and the record with one more point of the curve."""
        seconds = round(self.seconds, 1)
        self.curve.append({"step": self.step, "loss": loss, "held_out_loss": held_out, "seconds": seconds})
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
        }
        save_tensors(content, self.checkpoint)
        self._write_record()

    def _finish(self) -> None:
        """Write the prior; only then the checkpoint goes."""
        vars(self.unet).pop("forward", None)
        self.average.copy_to(self.unet.parameters())
        self.prior.eval().save(self.folder)
        self._write_record()
        self.checkpoint.unlink(missing_ok=True)

    def _write_record(self) -> None:
        about = {"settings": asdict(self.settings), "device": self.device.type, "torch": torch.__version__}
        record = {**about, "curve": self.curve}
        (self.folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n")


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


def _replay(unet: Any, settings: TrainingSettings) -> None:
    """Record the network's forward and backward pass once, and replay them in training (CUDA graphs).

    Launching its about thousand small kernels one by one takes longer than running them.
    """
    original = unet.forward

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            return original(sample, timestep, return_dict=False)[0]  # type: ignore[no-any-return]

    parameter = next(unet.parameters())
    side = settings.size // settings.patch_size
    sample = torch.zeros((settings.batch, unet.config.in_channels, side, side), device=parameter.device)
    timestep = torch.zeros(settings.batch, dtype=torch.long, device=parameter.device)
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        recorded = torch.cuda.make_graphed_callables(Network(), (sample, timestep))

    def forward(sample: Tensor, timestep: Tensor, **options: Any) -> Any:
        if unet.training:
            return (recorded(sample, timestep),)
        return original(sample, timestep, **options)

    unet.forward = forward


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
    if not isinstance(before, dict):
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
