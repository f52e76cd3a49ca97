"""Describe a prior by its properties and by samples.

No knowledge of scans; shows whether a prior is what its user expects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.errors import FileError, PriorError
from napari_d3ip.prior.importing import RECORD_NAME
from napari_d3ip.prior.library import BUNDLED, find_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.records import TRAINING_RECORD, read_record
from napari_d3ip.prior.schedules import schedule_name


def describe_prior(prior: DiffusionPrior) -> dict[str, Any]:
    """Return the properties of a prior, for display and as JSON.

    Parameters
    ----------
    prior : DiffusionPrior
        Prior from `load_prior`.

    Returns
    -------
    dict
        name, folder, origin, channels, image_size (of training, None if not recorded), patch_size,
        parameters, learned_variance, schedule, train_steps, range (network values of intensities 0 and 1),
        held_out_loss (of noise prediction, None if not recorded) and images (those of training and the held-out ones,
        with names, counts and digests; None if not recorded).

    Raises
    ------
    PriorError
        If the record of its origin is damaged.
    """
    folder, config = find_prior(prior.name), prior.config
    training = _record(folder / TRAINING_RECORD)
    try:
        origin = _origin(folder, training)
        held_out_loss = _held_out_loss(training)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PriorError(f"prior: a record in {folder} is incomplete ({error}); remove it.") from error
    return {
        "name": prior.name,
        "folder": str(folder),
        "origin": origin,
        "channels": config.channels,
        "image_size": image_size(prior),
        "patch_size": config.patch_size,
        "parameters": sum(parameter.numel() for parameter in prior.parameters()),
        "learned_variance": prior.unet.config.out_channels != prior.unet.config.in_channels,
        "schedule": schedule_name(prior.alphas_cumprod),
        "train_steps": prior.train_steps,
        "range": [config.low, config.high],
        "held_out_loss": held_out_loss,
        "images": training.get("images"),
    }


def image_size(prior: DiffusionPrior) -> int | None:
    """Return the height of the images a prior was trained on, None if not recorded."""
    size = prior.unet.config.sample_size
    if isinstance(size, list | tuple):
        size = size[0]
    return None if size is None else int(size) * prior.config.patch_size


@torch.no_grad()
def draw_samples(
    prior: DiffusionPrior,
    count: int,
    size: int,
    *,
    steps: int = 20,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """Draw images from a prior by deterministic DDIM (Song et al., ICLR 2021).

    Parameters
    ----------
    prior : DiffusionPrior
        Prior to sample.
    count, size : int
        Number of images, and their height and width in pixels.
    steps : int
        Number of network evaluations, at evenly spaced times.
    seed : int
        Seed of the initial noise.
    check : callable
        Called before every evaluation; may raise to stop.

    Returns
    -------
    Tensor
        Shape (count, channels, size, size), intensities in [0, 1], or [-1, 1] for parts of complex images.
    """
    generator = torch.Generator().manual_seed(seed)
    alphas = prior.alphas_cumprod
    shape = (count, prior.config.channels, size, size)
    x_t = torch.randn(shape, generator=generator, dtype=torch.float32).to(alphas.device)
    lowest = -1.0 if prior.config.channels == 2 else 0.0
    times = torch.linspace(prior.train_steps - 1, 0, steps).long().tolist()
    for t, t_next in zip(times, [*times[1:], None], strict=True):
        check()
        epsilon = prior.epsilon(x_t, t)
        image = prior.tweedie(x_t, epsilon, t).clamp(lowest, 1.0)
        if t_next is not None:
            # From the clamped image, so that clamped values do not return as noise.
            epsilon = (x_t - alphas[t].sqrt() * prior.normalise(image)) / (1 - alphas[t]).sqrt()
            x_t = alphas[t_next].sqrt() * prior.normalise(image) + (1 - alphas[t_next]).sqrt() * epsilon
    return image


def _record(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return read_record(path)
    except (FileError, ValueError) as error:
        raise PriorError(f"prior: {path} is not valid JSON; restore or remove it.") from error


def _origin(folder: Path, training: dict[str, Any]) -> str:
    imported = _record(folder / RECORD_NAME)
    if imported:
        return f"imported from {imported['checkpoint']} ({imported['layout']})"
    if training:
        settings = training["settings"]
        shipped = "shipped; " if folder.parent == BUNDLED else ""
        what = _training_images(training.get("images") or {}, settings["size"])
        start = f", started from {training['start']['prior']}" if training.get("start") else ""
        return f"{shipped}trained on {what} for {settings['steps']} steps{start}"
    return "diffusers pipeline"


def _training_images(images: dict[str, Any], size: int) -> str:
    if images.get("kind") != "images":
        kind = images.get("phantoms", "")
        return f"phantoms{f' ({kind})' if ':' in kind else ''} of {size} × {size}"
    volumes = images["training"]
    return f"images of {size} × {size} ({len(volumes)} volumes, {sum(each['slices'] for each in volumes)} slices)"


def _held_out_loss(training: dict[str, Any]) -> float | None:
    if training.get("best"):
        return float(training["best"]["held_out_loss"])
    return float(training["curve"][-1]["held_out_loss"]) if training.get("curve") else None
