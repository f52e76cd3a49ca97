"""State of an interrupted run on disk, so that it can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.adaptation import AdapterState
from napari_d3ip.errors import FileError
from napari_d3ip.io.atomic import replacing
from napari_d3ip.measurement import Measurement
from napari_d3ip.methods import SamplerState
from napari_d3ip.prior.saving import save_tensors
from napari_d3ip.problem import Problem
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.total_variation import Duals
from napari_d3ip.splits import Splits

# Of the content; runs do not go on with that of versions which kept something else.
_FORMAT = 2
# A file that was moved or renamed is still the same scan.
_NOT_GEOMETRY = ("provenance", "source", "origin", "slice_range")


def fingerprint(measurement: Measurement, settings: Settings) -> str:
    """What tells runs apart: the scan's content and the settings, wherever they came from and run."""
    digest = hashlib.sha256(settings.model_dump_json(exclude={"device", "backend"}).encode())
    for name, value in sorted(vars(measurement).items()):
        if name not in _NOT_GEOMETRY:
            digest.update(name.encode())
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


class Checkpoint:
    """File with the state of sampling, so that an interrupted run can go on.

    Raises
    ------
    FileError
        If ``path`` cannot be written.
    """

    def __init__(self, path: str | Path | None, measurement: Measurement, settings: Settings) -> None:
        self._path = None if path is None else Path(path)
        if self._path is not None:
            with _named(), replacing(self._path):  # Its place is tried before the long computation.
                pass
        self._fingerprint = fingerprint(measurement, settings)

    def save(self, state: SamplerState) -> None:
        """Write the state; a file from before is replaced only when the new one is complete.

        Raises
        ------
        FileError
            If it cannot be written; the file from before is kept.
        """
        if self._path is None:
            return
        content = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "x_t": state.x_t,
            "volume": state.volume,
            "generator": state.generator.get_state(),
            "adaptation_generator": state.adaptation_generator.get_state(),
            "duals": None if state.duals is None else vars(state.duals),
            "adapters": [vars(adapter) for adapter in state.adapters],
            "groups": state.groups,
            "splits": [None if splits is None else splits.tensors() for splits in state.splits],
            "index": state.index,
        }
        with _named():
            save_tensors(content, self._path)

    def load(self, problem: Problem) -> SamplerState | None:
        """State of an earlier run on the same problem, or None if there is no file.

        Raises
        ------
        FileError
            If the file belongs to another scan or other settings, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            content = torch.load(self._path, map_location=problem.measured.device, weights_only=True)
        except Exception as error:  # torch.load raises many types for a damaged file.
            raise FileError(f"resume: {self._path} cannot be read; delete it and start again.") from error
        if content.get("format") != _FORMAT:
            raise FileError(f"resume: {self._path} was written by another version; delete it and start again.")
        if content["fingerprint"] != self._fingerprint:
            raise FileError(
                f"resume: {self._path} was written for another scan or other settings; delete it or give the same."
            )
        generator, adaptation_generator = torch.Generator(), torch.Generator()
        generator.set_state(content["generator"].cpu())
        adaptation_generator.set_state(content["adaptation_generator"].cpu())
        return SamplerState(
            x_t=content["x_t"],
            volume=content["volume"],
            generator=generator,
            adaptation_generator=adaptation_generator,
            duals=_duals(content["duals"]),
            adapters=[AdapterState(**adapter) for adapter in content["adapters"]],
            groups=[group.cpu() for group in content["groups"]],
            splits=_splits(content["splits"], content["groups"], problem),
            index=content["index"],
        )


@contextmanager
def _named() -> Iterator[None]:
    """Errors of files say what the file is for."""
    try:
        yield
    except FileError as error:
        raise FileError(f"checkpoint: {error}") from error


def _duals(values: dict[str, Any] | None) -> Duals | None:
    return None if values is None else Duals(**values)


def _splits(saved: list[Any], groups: list[Tensor], problem: Problem) -> list[Splits | None]:
    """Splits of every group of slices."""
    splits: list[Splits | None] = []
    for group, values in zip(groups, saved, strict=True):
        own = problem if len(groups) == 1 else problem.of_slices(group)
        splits.append(None if values is None else Splits.of(own, **{**values, "duals": _duals(values["duals"])}))
    return splits
