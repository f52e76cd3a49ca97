"""Phantoms by name: our own, and those that a function of the user's draws.

Such a function is imported when it is named, and what it draws is checked.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.io.guard import one_line
from napari_d3ip.prior.phantoms import KINDS, ComplexPhantoms, Phantoms
from napari_d3ip.prior.training_data import TrainingData, random_crop

Function = Callable[[np.random.Generator], Any]
SIGNATURE = "(rng) -> array of shape (rows, columns)"
_ROUNDING = 1e-3


@dataclass(frozen=True)
class GeneratedPhantoms:
    """Distribution of random crops of the slices that a function draws, see `random_crop`.

    Parameters
    ----------
    function : callable
        Takes a `numpy.random.Generator`, from which all that is random must come; returns a slice, an array of any
        shape (rows, columns) from ``size`` on, values from 0 (nothing, air) to 1.
    size : int
        Height and width of the crops in pixels.
    name : str
        Name for messages.
    """

    function: Function
    size: int
    name: str = "phantoms"

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` images, as `napari_d3ip.prior.phantoms.EllipsePhantoms.draw`.

        Raises
        ------
        PriorError
            If the function fails, or returns something else than it should.
        """
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        crops = [random_crop(self._slice(random), self.size, generator) for _ in range(count)]
        return torch.stack(crops)[:, None].to(device)

    def _slice(self, random: np.random.Generator) -> Tensor:
        try:
            drawn = np.asarray(self.function(random))
        except Exception as error:  # From code of the user's own.
            raise PriorError(
                f"phantoms: {self.name} failed with {type(error).__name__} ({one_line(error)}); correct the function."
            ) from error
        if drawn.ndim != 2 or min(drawn.shape) < self.size or drawn.dtype.kind not in "fiub":
            raise PriorError(
                f"phantoms: {self.name} must return a slice of real numbers, of {self.size} × {self.size} pixels or "
                f"more, got shape {drawn.shape} of {drawn.dtype}; its signature is {SIGNATURE}."
            )
        low, high = float(drawn.min()), float(drawn.max())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # Also if they are not finite.
            raise PriorError(
                f"phantoms: {self.name} must return values from 0 (nothing) to 1, got {low:g} to {high:g}; scale them."
            )
        return torch.from_numpy(np.array(drawn, np.float32))


def phantoms_of(kind: str | Function, channels: int, size: int) -> Phantoms:
    """Return the phantoms of a kind for a prior of ``channels`` image channels.

    Parameters
    ----------
    kind : str or callable
        A name in `napari_d3ip.prior.phantoms.KINDS`, or a function or its name, see `load_function`.
    channels : int
        1, or 2 for complex images.
    size : int
        Height and width in pixels.

    Raises
    ------
    PriorError
        If there is no such kind.
    """
    return _of_channels(_real_phantoms(kind, size), channels, size)


def _real_phantoms(kind: str | Function, size: int) -> Phantoms:
    if callable(kind):
        return GeneratedPhantoms(kind, size, function_name(kind))
    if kind in KINDS:
        return KINDS[kind](size)
    if ":" in kind:
        return GeneratedPhantoms(load_function(kind), size, kind)
    raise PriorError(f"phantoms: must be {', '.join(KINDS)} or package.module:function, got '{kind}'.")


def _of_channels(phantoms: Phantoms, channels: int, size: int) -> Phantoms:
    return phantoms if channels == 1 else ComplexPhantoms(size, phantoms)


def phantom_data(kind: str | Function, channels: int, size: int) -> TrainingData:
    """Return phantoms as training data; held-out ones are of the same distribution, but of another seed.

    Raises
    ------
    PriorError
        If there is no such kind, or a function of the user's own does not draw slices.
    """
    real = _real_phantoms(kind, size)
    phantoms = _of_channels(real, channels, size)
    first = phantoms.draw(8, torch.Generator().manual_seed(0))  # Now, rather than after the network is built.
    if not first.any():
        raise PriorError(f"phantoms: {kind} draws nothing but 0; draw something.")
    record: dict[str, Any] = {"kind": "phantoms", "phantoms": kind if isinstance(kind, str) else function_name(kind)}
    if isinstance(real, GeneratedPhantoms):
        record["source_sha256"] = _digest_of_source(real.function)
    return TrainingData(phantoms, phantoms, record)


def function_name(function: Function) -> str:
    """Return the name under which a function could be imported."""
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"


def load_function(where: str) -> Function:
    """Import a function that draws phantoms.

    Parameters
    ----------
    where : str
        ``package.module:function``, the module also in the current folder, or ``FILE.py:function``.

    Raises
    ------
    PriorError
        If there is no such function, or it does not take one argument.
    """
    module_name, _, name = where.rpartition(":")
    try:
        module = _load_file(Path(module_name)) if module_name.endswith(".py") else _load_module(module_name)
    except Exception as error:  # Importing runs code of the user's own.
        raise PriorError(
            f"phantoms: {module_name or where} cannot be imported ({type(error).__name__}: {one_line(error)}); give "
            "package.module:function, or FILE.py:function."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise PriorError(f"phantoms: {module_name} has no function '{name}'; give the name of one that draws slices.")
    try:
        inspect.signature(function).bind(np.random.default_rng(0))
    except TypeError as error:
        raise PriorError(
            f"phantoms: {where} must take one argument, the random numbers; its signature is {SIGNATURE}."
        ) from error
    except ValueError:  # Of some compiled functions Python does not know the signature.
        pass
    return function  # type: ignore[no-any-return]


def _digest_of_source(function: Function) -> str | None:
    """Return the SHA-256 digest of the file a function was imported from, None if it is not known."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None


def _load_module(name: str) -> Any:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)  # As `python -m` does; a console script has the folder of its own there.
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_phantoms_in_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
