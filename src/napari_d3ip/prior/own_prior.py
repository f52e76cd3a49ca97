"""Train a prior of one's own, from images or phantoms to the finished folder; for command line, napari and scripts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from napari_d3ip.device import resolve_device
from napari_d3ip.errors import PriorError, SettingsError
from napari_d3ip.prior.generators import Function, function_name, phantom_data
from napari_d3ip.prior.library import SHIPPED
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.phantoms import KINDS
from napari_d3ip.prior.train import TrainingProgress, train
from napari_d3ip.prior.training_images import image_data
from napari_d3ip.prior.training_settings import FINE_TUNING, TrainingSettings

Paths = str | Path | Sequence[str | Path]


def train_prior(folder: str | Path, **options: Any) -> TrainingProgress:
    """Train a prior of one's own and write it to a folder; see `iter_train_prior`, which reports progress.

    Returns
    -------
    TrainingProgress
        The last one: steps done, and the losses of the best and of the prior that it started from.
    """
    *_, last = iter_train_prior(folder, **options)
    return last


def iter_train_prior(
    folder: str | Path,
    *,
    images: Paths = (),
    phantoms: str | Function | None = None,
    initial: str | Path | None = "auto",
    device: str = "auto",
    resume: bool = False,
    **settings: Any,
) -> Generator[TrainingProgress, None, None]:
    """Train a prior of one's own, and yield after every few steps; closing the iterator keeps a checkpoint.

    On images, or phantoms of a function, it starts from the shipped prior, keeps what that knew by replay of its
    phantoms, and ends by itself when the loss on held-out images no longer falls.

    Parameters
    ----------
    folder : str or Path
        Folder to write: a `diffusers` pipeline, ``training.json`` and a model card.
    images : path or sequence of paths
        Files and folders of volumes and images, see `image_data`. Whole volumes are held out, never single slices.
    phantoms : str or callable
        Instead of images: a function ``(rng) -> slice``, or its name (``package.module:function`` or
        ``FILE.py:function``), see `GeneratedPhantoms`; or ``"ellipses"`` or ``"mixed"``.
    initial : str, Path or None
        Prior to start from; ``"auto"``: the shipped one for images and functions of the user's own; None: random
        weights.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    resume : bool
        Continue from the checkpoint in ``folder``.
    **settings
        Fields of `TrainingSettings` that are not as usual.

    Yields
    ------
    TrainingProgress
        State of the training.

    Raises
    ------
    PriorError
        If images or phantoms cannot be trained on, or there is no such prior to start from; see also `train`.
    FileError
        If a file cannot be read or written.
    SettingsError
        If a setting is invalid, or no setting has its name.
    """
    paths = [images] if isinstance(images, str | Path) else list(images)
    if bool(paths) == (phantoms is not None):
        raise PriorError(f"images, phantoms: give one of them, got {'both' if paths else 'none'}.")
    is_own = phantoms is None or phantoms not in KINDS
    if initial == "auto":
        initial = SHIPPED if is_own else None
    chosen = _settings(FINE_TUNING if is_own and initial is not None else TrainingSettings(), settings, phantoms)
    on = resolve_device(device)
    if phantoms is None:
        data = image_data(paths, chosen.size, channels=chosen.channels, zero=chosen.zero)
    else:
        data = phantom_data(phantoms, chosen.channels, chosen.size)
    start = None if initial is None else load_prior(initial)
    yield from train(Path(folder), chosen, data=data, device=on, resume=resume, initial=start)


def _settings(usual: TrainingSettings, given: dict[str, Any], phantoms: str | Function | None) -> TrainingSettings:
    names = {each.name for each in fields(TrainingSettings)} - {"phantoms"}
    unknown = sorted(given.keys() - names)
    if unknown:
        raise SettingsError(f"{unknown[0]}: is no setting of a training; these are {', '.join(sorted(names))}.")
    name = function_name(phantoms) if callable(phantoms) else phantoms
    return replace(usual, phantoms=name, **given)
