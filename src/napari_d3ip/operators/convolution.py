"""Blur of a volume by a point spread function, in 3D by FFT, as in a microscope.

Tensors only; masks select the measured voxels.
"""

from __future__ import annotations

from typing import Literal

import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.operators.base import LinearOperator

Boundary = Literal["reflect", "zero"]

# Number of cached spectra: of the whole volume, and of the most frequent lengths of slabs.
_SPECTRA = 4


class Convolution(LinearOperator):
    """``y(r) = sum_o h(o) x(r - o)`` on the grid of the volume, with an exact adjoint.

    The volume continues beyond its borders, mirrored or with zeros, so that nothing wraps around. Slices are coupled:
    a slab contributes to the data within the reach of the point spread function only, at a cost that does not depend
    on the other slices.

    Parameters
    ----------
    psf : Tensor
        Point spread function h, shape (z, y, x), its centre at index ``n // 2`` of each axis.
    shape : tuple of int
        Shape of the volume, (z, y, x).
    boundary : {"reflect", "zero"}
        Values beyond the borders: the volume mirrored at its outermost faces, or zero.
    """

    couples_slices = True

    def __init__(self, psf: Tensor, shape: tuple[int, int, int], boundary: Boundary = "reflect") -> None:
        self.domain_shape = self.range_shape = shape[1:]
        self._psf, self._shape, self._boundary = psf, shape, boundary
        self._spectra: dict[tuple[int, ...], Tensor] = {}
        self._across = [self._sources(axis, 0, shape[axis]) for axis in (1, 2)]
        self._choose(torch.arange(shape[0]))

    def _choose(self, index: Tensor) -> None:
        """Select some slices of the whole volume, and the rows of data that they contribute to."""
        self._index = index.to(self._psf.device)
        self.depth = len(index)
        self._first, self._last = self._reach(self._index)
        whole = self._sources(0, self._first, self._last)
        place = torch.full((self._shape[0] + 1,), -1, device=self._psf.device)
        place[self._index] = torch.arange(len(index), device=self._psf.device)
        self._along = place[whole]  # The last entry, which -1 points to, stays -1.

    def _reach(self, slices: Tensor) -> tuple[int, int]:
        """Return the first and last + 1 row of data that some slices of the whole volume contribute to."""
        size = self._psf.shape[0]
        first, last = int(slices.min()) - size // 2, int(slices.max()) + size - size // 2
        return max(0, first), min(self._shape[0], last)

    def _sources(self, axis: int, first: int, last: int) -> Tensor:
        """Return the source of voxels that the data ``first:last`` along an axis depend on; -1 for none."""
        size, length = self._psf.shape[axis], self._shape[axis]
        before = size - 1 - size // 2
        position = torch.arange(first - before, last + size // 2, device=self._psf.device)
        if self._boundary == "zero":
            return torch.where((position >= 0) & (position < length), position, -1)
        folded = position.remainder(2 * length)
        return torch.minimum(folded, 2 * length - 1 - folded)

    def restrict(self, index: Tensor) -> Convolution:
        """Return the operator of the contribution of some slices."""
        part = Convolution.__new__(Convolution)
        part.__dict__.update(self.__dict__)
        part._choose(self._index[index.to(self._index.device)])
        return part

    def rows(self, index: Tensor) -> Tensor:
        """Return the rows within the reach of the point spread function."""
        first, last = self._reach(self._index[index.to(self._index.device)])
        return torch.arange(first - self._first, last - self._first)

    def forward(self, x: Tensor) -> Tensor:
        """Blur (z, y, x) to the rows of data that these slices contribute to."""
        for axis, sources in enumerate((self._along, *self._across)):
            x = _gather(x, axis, sources)
        lengths = self._lengths()
        blurred: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, s=lengths) * self._spectrum(lengths), s=lengths)
        rows = (self._last - self._first, *self._shape[1:])
        for axis, (count, before) in enumerate(zip(rows, self._before(), strict=True)):
            blurred = blurred.narrow(axis, before, count)
        return blurred

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate with the point spread function: the exact transpose of `forward`."""
        lengths = self._lengths()
        pads = [
            (before, length - before - count)
            for length, before, count in zip(lengths, self._before(), y.shape, strict=True)
        ]
        padded = F.pad(y, [pad for pair in reversed(pads) for pad in pair])
        x: Tensor = torch.fft.irfftn(torch.fft.rfftn(padded) * self._spectrum(lengths).conj(), s=lengths)
        domain = (self.depth or 0, *self.domain_shape)
        for axis, sources in enumerate((self._along, *self._across)):
            x = _gather_adjoint(x.narrow(axis, 0, len(sources)), axis, sources, domain[axis])
        return x

    def _before(self) -> list[int]:
        return [size - 1 - size // 2 for size in self._psf.shape]

    def _lengths(self) -> tuple[int, ...]:
        """Return the lengths of the transforms, at least those of the volume with its continuation."""
        return tuple(scipy.fft.next_fast_len(len(each), real=True) for each in (self._along, *self._across))

    def _spectrum(self, lengths: tuple[int, ...]) -> Tensor:
        if lengths not in self._spectra:
            while len(self._spectra) >= _SPECTRA:  # The oldest of all slabs, which share the cache.
                self._spectra.pop(next(iter(self._spectra)))
            pads = [length - size for length, size in zip(lengths, self._psf.shape, strict=True)]
            padded = F.pad(self._psf, [pad for after in reversed(pads) for pad in (0, after)])
            centred = padded.roll([-(size // 2) for size in self._psf.shape], dims=(0, 1, 2))
            self._spectra[lengths] = torch.fft.rfftn(centred)
        return self._spectra[lengths]


def _gather(x: Tensor, axis: int, sources: Tensor) -> Tensor:
    """Return the entries of an axis at ``sources``, zero where these are -1."""
    there = (sources >= 0).to(x.dtype).reshape([-1 if each == axis else 1 for each in range(x.ndim)])
    return x.index_select(axis, sources.clamp(min=0)) * there


def _gather_adjoint(y: Tensor, axis: int, sources: Tensor, length: int) -> Tensor:
    """Apply the exact adjoint of `_gather` for an axis of ``length``."""
    there = sources >= 0
    shape = [length if each == axis else size for each, size in enumerate(y.shape)]
    taken = y.index_select(axis, there.nonzero()[:, 0])
    return y.new_zeros(shape).index_add(axis, sources[there], taken)
