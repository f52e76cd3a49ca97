"""Train a prior on random phantoms, with moving average, checkpoints and resume.

Phantoms and networks; no scans. Runs of the same seed and settings use the same phantoms.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.errors import FileError, PriorError, SettingsError
from napari_d3ip.prior.library import is_pipeline
from napari_d3ip.prior.network import NORM_GROUPS, DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.phantoms import phantoms_of
from napari_d3ip.prior.saving import load_tensors, save_tensors
from napari_d3ip.prior.schedules import linear_schedule

_HELD_OUT_SEED = 2**31 - 1
_CHECKPOINT = "checkpoint.pt"
# Settings that may change on resume: the length of training, and the decay of the rate until then.
_FREE_TO_CHANGE = ("steps", "minutes", "learning_rate", "decay")
TRAINING_RECORD = "training.json"


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that determine the weights.

    Parameters
    ----------
    steps : int
        Total number of optimizer steps.
    batch : int
        Phantoms per step.
    size : int
        Height and width of the training images in pixels.
    width : int
        Channels of the first level.
    patch_size : int
        Space-to-depth factor.
    learning_rate : float
        Peak rate of Adam: warm-up, constant, then a linear decay over the last ``decay`` of the steps (so that a
        run can be resumed with another ``steps``).
    warmup : int
        Warm-up steps.
    decay : float
        Fraction of the steps with decaying rate.
    ema : float
        Decay of the moving average of the weights, which is saved.
    seed : int
        Seed of weights, phantoms and noise.
    channels : int
        1: real images; 2: real and imaginary parts of complex images.
    phantoms : str
        ``"ellipses"`` or ``"mixed"``, see `napari_d3ip.prior.phantoms`.
    pool : int
        Number of steps for which phantoms are drawn at once: on a GPU, launching the many small operations of a
        drawing takes longer than computing them. Changes which phantoms are drawn.
    minutes : float, optional
        Maximum duration; the decay of the rate ends then, too.
    time_power : float
        Times are drawn as ``T u**time_power`` with u uniform: 1 is the usual uniform draw, larger ones give more small
        times, where most of the loss is and where sampling from a first reconstruction happens.

    Raises
    ------
    SettingsError
        If they are not positive, or the network cannot be built from them.
    """

    steps: int = 9000
    batch: int = 16
    size: int = 64
    width: int = 48
    patch_size: int = 2
    learning_rate: float = 4e-4
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.999
    seed: int = 0
    channels: int = 1
    phantoms: str = "ellipses"
    pool: int = 1
    minutes: float | None = None
    time_power: float = 2.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "size", "width", "patch_size", "warmup", "pool"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: must be 1 or more, got {getattr(self, name)}.")
        if self.channels not in (1, 2):
            raise SettingsError(f"channels: must be 1, or 2 for complex images, got {self.channels}.")
        if not (0 <= self.ema < 1 and 0 <= self.decay <= 1):
            raise SettingsError(f"ema, decay: must be fractions from 0 to 1, got {self.ema} and {self.decay}.")
        if not 0 < self.time_power < math.inf:
            raise SettingsError(f"time_power: must be positive and finite, got {self.time_power}.")
        if self.width % NORM_GROUPS:
            raise SettingsError(f"width: must be a multiple of {NORM_GROUPS}, got {self.width}.")
        if self.size % (4 * self.patch_size):
            raise SettingsError(
                f"size: must be a multiple of {4 * self.patch_size}, since the network halves images, got {self.size}."
            )
        if not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"learning_rate: must be positive and finite, got {self.learning_rate}.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise SettingsError(f"minutes: must be positive and finite, got {self.minutes}.")

    def left(self, step: int, seconds: float) -> float:
        """Return the remaining fraction of the training."""
        of_time = 1.0 if self.minutes is None else 1 - seconds / (60 * self.minutes)
        return min((self.steps - step) / self.steps, of_time)

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """Return the learning rate at ``step``, ``seconds`` after the start."""
        rising = (step + 1) / self.warmup
        falling = self.left(step, seconds) / max(1 / self.steps, self.decay)
        return self.learning_rate * min(1.0, rising, falling)


@dataclass(frozen=True)
class TrainingProgress:
    """State after a step: mean loss since the last report and, when measured, the loss on held-out phantoms."""

    step: int
    total: int
    loss: float
    held_out_loss: float | None


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
    report_every: int = 50,
    checkpoint_every: int = 500,
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
    report_every, checkpoint_every : int
        Steps between reports, and between checkpoints with a validation loss.
    evaluate : callable
        Computes the validation loss of a prior at a size on a kind of phantoms.

    Yields
    ------
    TrainingProgress
        Every ``report_every`` steps.

    Raises
    ------
    PriorError
        If ``resume`` is set without a checkpoint, or with other settings than its own, except for ``steps``,
        ``minutes``, ``learning_rate`` and ``decay``; or ``initial`` has another network; or ``folder`` holds a
        finished prior.
    FileError
        If ``folder`` is a file, or the checkpoint cannot be written; the previous one is kept.
    """
    from diffusers.training_utils import EMAModel

    if folder.is_file():
        raise FileError(f"{folder} is a file; give a folder for the prior.")
    if not resume and is_pipeline(folder):
        raise PriorError(f"{folder} holds a prior already; choose another folder, or pass it as initial to continue.")
    device = torch.device(device)
    phantoms = phantoms_of(settings.phantoms, settings.channels, settings.size)
    torch.manual_seed(settings.seed)
    config = PriorConfig(
        channels=settings.channels,
        patch_size=settings.patch_size,
        # Parts of complex images have either sign: 0 is in the middle of the range.
        low=-1.0 if settings.channels == 1 else 0.0,
    )
    unet = build_unet(settings.width, settings.patch_size, config.channels, settings.size)
    prior = DiffusionPrior(unet, linear_schedule(), config, name=folder.name).to(device)
    if initial is not None:
        _load_weights(unet, _extend_channels(initial.unet.state_dict(), unet.state_dict()), initial.name)
    optimizer = torch.optim.Adam(unet.parameters(), lr=settings.learning_rate)
    average = EMAModel(unet.parameters(), decay=settings.ema, use_ema_warmup=True, power=3 / 4, foreach=True)
    generator = torch.Generator().manual_seed(settings.seed)
    curve: list[dict[str, float]] = []
    start, seconds = 0, 0.0
    pool: list[Tensor] = []

    checkpoint = folder / _CHECKPOINT
    if resume:
        if not checkpoint.exists():
            raise PriorError(f"resume: checkpoint {checkpoint} does not exist; start without --resume.")
        state = _load_checkpoint(checkpoint, device, settings)
        _load_weights(unet, state["unet"], str(checkpoint))
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        generator.set_state(state["generator"].cpu())
        pool = state["pool"]
        curve, start, seconds = state["curve"], state["step"], state["seconds"]
    average.to(device)

    folder.mkdir(parents=True, exist_ok=True)
    began, losses = time.monotonic() - seconds, []

    def measure() -> float:
        average.store(unet.parameters())
        average.copy_to(unet.parameters())
        value = evaluate(prior.eval(), settings.size, settings.phantoms)
        average.restore(unet.parameters())
        prior.train()
        return value

    prior.train()
    if device.type == "cuda":
        _replay(unet, settings)
    for step in range(start, settings.steps):
        elapsed = time.monotonic() - began
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step, elapsed)
        if not pool:
            pool = list(phantoms.draw(settings.pool * settings.batch, generator, device).split(settings.batch))
        image = pool.pop(0)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = epsilon_loss(prior, image, generator, settings.time_power)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.step(unet.parameters())
        losses.append(loss.detach())
        done = step + 1
        is_last = settings.left(done, time.monotonic() - began) <= 0
        held_out = None
        if done % checkpoint_every == 0 or is_last:
            held_out = measure()
            seconds = time.monotonic() - began
            mean = float(torch.stack(losses[-checkpoint_every:]).mean())
            curve.append({"step": done, "loss": mean, "held_out_loss": held_out, "seconds": round(seconds, 1)})
            content = {
                "unet": unet.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state_dict(),
                "generator": generator.get_state(),
                "pool": pool,
                "curve": curve,
                "step": done,
                "seconds": seconds,
                "settings": asdict(settings),
            }
            save_tensors(content, checkpoint)
            _write_record(folder, settings, device, curve)
        if done % report_every == 0 or held_out is not None:
            recent = float(torch.stack(losses[-report_every:]).mean())
            losses = losses[-checkpoint_every:]
            yield TrainingProgress(done, done if is_last else settings.steps, recent, held_out)
        if is_last:
            break

    vars(unet).pop("forward", None)
    average.copy_to(unet.parameters())
    prior.eval().save(folder)
    _write_record(folder, settings, device, curve)
    checkpoint.unlink(missing_ok=True)


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


def _write_record(
    folder: Path, settings: TrainingSettings, device: torch.device, curve: list[dict[str, float]]
) -> None:
    record = {"settings": asdict(settings), "device": device.type, "torch": torch.__version__, "curve": curve}
    (folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n")
