"""Settings of the training of a prior, and how often it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from napari_d3ip.errors import SettingsError
from napari_d3ip.prior.network import NORM_GROUPS


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the weights.

    Parameters
    ----------
    steps : int
        Optimizer steps in all.
    batch : int
        Images a step.
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
        Decay of the moving average of the weights, which is what is saved.
    seed : int
        Seed of weights, images and noise.
    channels : int
        1: real images; 2: real and imaginary parts of complex ones.
    phantoms : str, optional
        ``"ellipses"``, ``"mixed"`` (see `napari_d3ip.prior.phantoms`), or a function, ``package.module:function``;
        None if the training images are given.
    pool : int
        Images are drawn for so many steps at once: on a GPU launching the many small operations of a drawing takes
        longer than they do. Changes which ones are drawn.
    minutes : float, optional
        End after so long, if ``steps`` are not done by then; the decay of the rate, too.
    time_power : float
        Times are drawn as ``T u**time_power`` with u uniform: 1 is the usual uniform draw, larger ones visit small
        times, where most of the loss is and where sampling from a first reconstruction happens, more often.
    replay : float
        Fraction of the images that are ellipses, those of the shipped prior: a training that starts from it keeps what
        it knew.
    patience : int, optional
        End where the held-out loss has fallen by less than 1 % in so many steps; the rate decays before, as at the
        end of ``steps``.
    zero : float, optional
        Value where nothing is, in images of the user's own; see `napari_d3ip.prior.training_images.image_data`.

    Raises
    ------
    SettingsError
        If the network cannot be built of them, or they are not positive.
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
    phantoms: str | None = "ellipses"
    pool: int = 1
    minutes: float | None = None
    time_power: float = 2.0
    replay: float = 0.0
    patience: int | None = None
    zero: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "size", "width", "patch_size", "warmup", "pool", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise SettingsError(f"{name}: must be 1 or more, got {getattr(self, name)}.")
        if self.channels not in (1, 2):
            raise SettingsError(f"channels: must be 1, or 2 for complex images, got {self.channels}.")
        fractions = (self.ema, self.decay, self.replay)
        if not (0 <= self.ema < 1 and 0 <= self.decay <= 1 and 0 <= self.replay < 1):
            raise SettingsError(f"ema, decay, replay: must be fractions from 0 to 1, got {fractions}.")
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
        """Fraction of the training that is left."""
        of_time = 1.0 if self.minutes is None else 1 - seconds / (60 * self.minutes)
        return min((self.steps - step) / self.steps, of_time)

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """Learning rate at ``step``, ``seconds`` after the start."""
        rising = (step + 1) / self.warmup
        falling = self.left(step, seconds) / max(1 / self.steps, self.decay)
        return self.learning_rate * min(1.0, rising, falling)

    def settled_at(self, step: int) -> TrainingSettings:
        """Return the settings of a training that has settled at ``step``: from there the rate decays, and it ends."""
        return replace(self, steps=min(self.steps, math.ceil(step / (1 - min(self.decay, 0.5)))))


FINE_TUNING = TrainingSettings(steps=20000, learning_rate=2e-4, warmup=50, replay=0.25, patience=500)
"""Where a training on images of the user's own starts from a trained prior: it ends by itself, long before."""


class Intervals(NamedTuple):
    """Steps between reports, and between checkpoints, each with an evaluation on so many held-out images."""

    report: int = 50
    checkpoint: int = 500
    held_out: int = 256

    @classmethod
    def from_settings(cls, settings: TrainingSettings) -> Intervals:
        """Return twenty evaluations a training, or one in 250 steps, none of which takes long."""
        checkpoint = min(max(settings.steps // 20, 25), 250)
        return cls(10, checkpoint, min(max(32, 256 * 64**2 // settings.size**2), 256))
