"""State of an interrupted run on disk, so that it can go on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_d3ip.device import is_out_of_memory
from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.files import is_regular
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import one_line
from napari_d3ip.measurement import LinearMeasurement, Measurement
from napari_d3ip.methods.run import SamplerState
from napari_d3ip.prior.saving import load_tensors, save_tensors
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem

# Of the content; runs do not go on with that of versions which kept something else.
_FORMAT = 5
# What a probe of an operator may differ by between machines.
_PROBE_TOLERANCE = 1e-4
# A file that was moved or renamed is still the same scan.
_NOT_GEOMETRY = ("provenance", "source", "origin", "slice_range")


def fingerprint(measurement: Measurement, settings: Settings) -> str:
    """Return a digest of the scan's content and the settings, wherever they came from and run, in any batches.

    Of somebody's operator, which may say nothing of itself, the type.
    """
    digest = hashlib.sha256(settings.model_dump_json(exclude={"device", "backend", "batch_slices"}).encode())
    for name, value in sorted(vars(measurement).items()):
        if name in _NOT_GEOMETRY:
            continue
        digest.update(name.encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update((type(value).__qualname__ if name == "operator" else repr(value)).encode())
    return digest.hexdigest()


def probe(problem: Problem) -> float:
    """Return the norm of ``A x`` of a random volume x, which tells operators of one type apart."""
    shape = problem.zeros().shape
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(
        problem.measured.device
    )
    return float(torch.linalg.vector_norm(problem.operator(volume.to(problem.operator.domain_dtype))))


class Checkpoint:
    """File with the state of sampling, so that an interrupted run can go on.

    Raises
    ------
    FileError
        If ``path`` cannot be written, or is a file of something else.
    """

    def __init__(self, path: str | Path | None, measurement: Measurement, settings: Settings) -> None:
        self._path = None if path is None else Path(path)
        self._fingerprint = ""
        self._is_linear = isinstance(measurement, LinearMeasurement)
        if self._path is not None:
            if self._path.exists() and not _is_checkpoint(self._path):
                raise FileError(f"checkpoint: {self._path} holds something else; choose another file, or delete it.")
            with _named(), replacing(self._path):  # Its place is tried before the long computation.
                pass
            self._fingerprint = fingerprint(measurement, settings)

    def save(self, state: SamplerState, problem: Problem, history: list[dict[str, Any]]) -> None:
        """Write the state, and what led to it; a file from before is replaced only when the new one is complete.

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
            "probe": probe(problem) if self._is_linear else 0.0,
            "history": history,
            **state.state_dict(),
        }
        with _named():
            save_tensors(content, self._path)

    def load(self, problem: Problem) -> tuple[SamplerState, list[dict[str, Any]]] | None:
        """Return state and history of an earlier run on the same problem, or None if there is no file.

        Raises
        ------
        FileError
            If the file belongs to another scan or other settings, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            content = load_tensors(self._path, problem.measured.device)
        except FileError as error:
            raise FileError(f"resume: {error}; delete it and start again.") from error
        if content.get("format") != _FORMAT:
            raise FileError(f"resume: {self._path} was written by another version; delete it and start again.")
        try:
            found = probe(problem) if self._is_linear else 0.0
            is_same = math.isclose(content["probe"], found, rel_tol=_PROBE_TOLERANCE)
            if content["fingerprint"] != self._fingerprint or not is_same:
                raise FileError(
                    f"resume: {self._path} was written for another scan or other settings; delete it or give the same."
                )
            return SamplerState.restore(problem, content), _history(content["history"])
        except D3IPError:
            raise
        except Exception as error:  # Of whatever somebody else put there.
            if is_out_of_memory(error):
                raise
            raise FileError(
                f"resume: {self._path} holds no state of this run ({one_line(error)}); delete it and start again."
            ) from error


@contextmanager
def _named() -> Iterator[None]:
    """Say in errors of files what the file is for."""
    try:
        yield
    except FileError as error:
        raise FileError(f"checkpoint: {error}") from error


def _is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint, of this version or another; nothing of it is copied into memory."""
    if not is_regular(path):  # To open a pipe would wait for somebody to write to it.
        return False
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001 - torch.load raises many types for other files.
        return False
    return isinstance(content, dict) and {"format", "fingerprint"} <= content.keys()


def _history(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries that a run can go on from; raises ValueError if they are none."""
    if not all(isinstance(entry["phase"], str) and math.isfinite(entry["seconds"]) for entry in entries):
        raise ValueError("its history is none")
    return list(entries)
