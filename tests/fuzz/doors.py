"""Open a file in every way that a user can, and note what must not happen."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import D3IPError
from napari_d3ip.io import reader_process
from napari_d3ip.io.reader_process import in_own_process

LONGEST = 500
reader_process.TIME_LIMIT = 5.0
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ANSWERS = {
    **{"angles": "0:180", "angle_unit": "degree", "values": "line_integrals", "repetition": 0, "image_shape": (8, 8)},
    **{"axes": "zad"},
}
_MOST_QUESTIONS, _MOST_VALUES = 6, 2**18


class Attempts:
    """Calls functions of the package and keeps what is wrong with their ends.

    Parameters
    ----------
    is_apart : bool
        Whether a process of its own opens the files, as for the users.
    """

    def __init__(self, *, is_apart: bool = False) -> None:
        self._is_apart = is_apart
        self.found: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.accepted = False

    def __call__(self, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Return what a function returns, or its error."""
        try:
            if self._is_apart and given and isinstance(given[0], Path):
                return in_own_process(function, *given, **options)
            return function(*given, **options)
        except D3IPError as error:
            message = str(error)
            self.refused.append(message)
            if len(message) > LONGEST:
                self.note("message", f"{len(message)} characters: {message}")
            if any(unicodedata.category(one) in _UNSHOWN for one in message):
                self.note("message", f"control characters: {message!r}")
            return error
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self.note("foreign", f"{function.__name__}: {type(error).__name__}: {str(error)[:300]} ({_place(error)})")
            return None

    def note(self, kind: str, what: str) -> None:
        """Keep a failure."""
        self.found.append((kind, what))


def _place(error: BaseException) -> str:
    """Where in this package an exception passed last."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "napari_d3ip" in name:
            place = f"{name.rpartition('napari_d3ip/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def open_scan(path: Path, attempt: Attempts) -> None:
    """Look at a scan, read it with answers to what is asked, describe and save it."""
    from napari_d3ip.io import read, save_kspace, save_sinogram
    from napari_d3ip.io.registry import looks_like_scan
    from napari_d3ip.io.results import is_own_volume
    from napari_d3ip.measurement import KSpace, Sinogram

    attempt(is_own_volume, path)
    attempt(looks_like_scan, path)
    options: dict[str, Any] = {}
    for _ in range(_MOST_QUESTIONS):
        scan = attempt(read, path, **options)
        needs = getattr(scan, "needs", None)
        if needs is None or needs in options:
            break
        answer = scan.candidates[0] if scan.candidates else _ANSWERS.get(needs)
        if answer is None:
            break
        options[needs] = answer
    if not isinstance(scan, Sinogram | KSpace):
        return
    attempt.accepted = True
    if not np.isfinite(scan.data).all():
        attempt.note("result", "values that are not finite")
    attempt(_as_json, scan)
    attempt(read, path, **options, slices="0:1")
    if scan.data.size < _MOST_VALUES:
        save, name = (save_sinogram, "again.h5") if isinstance(scan, Sinogram) else (save_kspace, "again.npz")
        attempt(save, path.parent / name, scan)


def _as_json(scan: Any) -> None:
    json.dumps(scan.describe(), allow_nan=False)


def open_volume(path: Path, attempt: Attempts) -> None:
    """Read a volume, and write it again with what belongs to it."""
    from napari_d3ip.io import Volume, load_volume, read, save_volume
    from napari_d3ip.io.results import is_own_volume

    attempt(is_own_volume, path)
    volume = attempt(load_volume, path, allow_complex=True)
    attempt(read, path, kind="inpainting")
    if isinstance(volume, Volume):
        attempt.accepted = True
        if volume.data.size < _MOST_VALUES:
            about = {"voxel_size": volume.voxel_size, "unit": volume.unit, "metadata": volume.metadata}
            attempt(save_volume, path.parent / "again.h5", volume.data, **about, belongings=volume.belongings)


def open_both(path: Path, attempt: Attempts) -> None:
    """Open what may be a scan or a volume as both."""
    open_scan(path, attempt)
    open_volume(path, attempt)


def open_angles(path: Path, attempt: Attempts) -> None:
    """Read angles, and a scan beside them or with them."""
    from napari_d3ip.io import read
    from napari_d3ip.io.layout.angles import read_angles
    from napari_d3ip.io.registry import looks_like_scan

    attempt(read_angles, path)
    beside = path.parent / "scan.npy"
    attempt(looks_like_scan, beside)
    attempt(read, beside, axes="zad")
    attempt.accepted = not isinstance(attempt(read, beside, angles=path, axes="zad"), D3IPError | None)


def open_result(path: Path, attempt: Attempts) -> None:
    """Open a result as napari does."""
    from napari_d3ip.io import load_volume
    from napari_d3ip.io.results import is_own_volume
    from napari_d3ip.widgets.saved_layers import saved_layer

    attempt(load_volume, path)
    if attempt(is_own_volume, path) is True:
        layer = attempt(saved_layer, path)
        attempt.accepted = isinstance(layer, tuple)
        if isinstance(layer, tuple):
            attempt(_as_layer, layer)


def _as_layer(layer: Any) -> None:
    from napari.layers import Layer

    Layer.create(*layer)


def open_prior(path: Path, attempt: Attempts) -> None:
    """Load a prior, and what menus say of it."""
    from napari_d3ip.prior.description import describe_prior
    from napari_d3ip.prior.library import train_steps
    from napari_d3ip.prior.loading import load_prior

    attempt(train_steps, path)
    prior = attempt(load_prior, path)
    attempt.accepted = not isinstance(prior, D3IPError | None)
    if attempt.accepted:
        attempt(lambda: json.dumps(describe_prior(prior), allow_nan=False))


def open_adapter(path: Path, attempt: Attempts) -> None:
    """Load adapters, put them into their prior, and average them."""
    from napari_d3ip.adaptation.adapter import Adapter
    from napari_d3ip.adaptation.folders import describe_adapter, settings_of_adapter
    from napari_d3ip.adaptation.saved import SavedAdapter, average_adapters, load_adapter
    from napari_d3ip.prior.loading import load_prior

    attempt(describe_adapter, path)
    attempt(settings_of_adapter, path)
    saved = attempt(load_adapter, path)
    if isinstance(saved, SavedAdapter):
        adapter = Adapter(load_prior(path.parent / "tiny"), rank=1, learning_rate=1e-3)
        attempt.accepted = not isinstance(attempt(adapter.start_from, saved), D3IPError)
        mean = attempt(average_adapters, [saved, saved])
        if isinstance(mean, SavedAdapter):
            attempt(mean.save, path.parent / "mean")


def open_checkpoint(path: Path, attempt: Attempts) -> None:
    """Go on from a checkpoint."""
    from tests.fuzz import own

    from napari_d3ip.reconstruction.checkpoint import Checkpoint

    seed = path.parent.parent / "seed" / "0"  # The valid files, among them the prior.
    place = attempt(Checkpoint, path, own.scan(), own.problem(seed).settings.filled)
    if isinstance(place, Checkpoint):
        attempt.accepted = isinstance(attempt(place.load, own.problem(seed)), tuple)


def open_settings(path: Path, attempt: Attempts) -> None:
    """Read a file of settings."""
    from napari_d3ip.settings import Settings

    values = attempt(Settings.load, path)
    if isinstance(values, dict):
        attempt.accepted = isinstance(attempt(Settings.create, values), Settings)
