"""Coil sensitivities from the centre of k-space, coil compression, and the smooth phase of the image.

ESPIRiT is implemented here, since `sigpy`'s supports square calibration regions only: of nine fully sampled lines it
would use nine columns. For square regions, the two agree (tests).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.mri import NonCartesianSense, centred_fft, centred_ifft
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient

_KERNEL = 6
_SMALLEST = 4
LARGEST_CENTRE = 24
# Singular value, relative to the largest, below which kernels are no signal: where the noise is not known, and the
# least and the most where it is.
_NULL_SPACE, _LEAST_OF_NOISE, _MOST_OF_NOISE = 0.02, 1e-3, 0.2
# Eigenvalues between which maps fade out, of kernels that were cut off and of weighted ones. These are the lower the
# noisier: in noise of a tenth of the intensity 0.80 to 0.98 inside an object, and at most 0.67 in nine tenths of the
# pixels outside (0.97 where they were cut off).
_CUT_OFF, _WEIGHTED = (0.8, 0.95), (0.6, 0.65)
_GRIDDING_ITERATIONS = 15


def sampled_centre(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return height and width of the fully sampled rectangle around DC that all slices have in common.

    Parameters
    ----------
    mask : ndarray of bool
        Shape (z, ky, kx).

    Returns
    -------
    tuple of int
        Of the rectangles centred at DC, the one with the largest shorter side (up to the size calibration uses), then
        the largest area; (0, 0) without DC.
    """
    common = np.logical_and.reduce(mask, axis=0)
    center = tuple(length // 2 for length in common.shape)
    best, rating = (0, 0), (0, 0)
    for height in range(1, common.shape[0] + 1):
        rows = common[center[0] - height // 2 :][:height]
        if len(rows) < height or not rows[:, center[1]].all():
            break
        columns = np.logical_and.reduce(rows, axis=0)
        right = int(np.argmin(np.append(columns[center[1] :], False)))
        left = int(np.argmin(np.append(columns[center[1] - 1 :: -1], False))) if center[1] else 0
        width = min(2 * min(left, right) + (1 if right > left else 0), common.shape[1])
        rated = (min(height, width, LARGEST_CENTRE), height * width)
        if rated > rating:
            best, rating = (height, width), rated
    return best


def calibration_data(kspace: KSpace, width: int | None, device: torch.device) -> Tensor:
    """Return the fully sampled centre of k-space, shape (z, coil, cy, cx), DC in the centre.

    Measured separately, cropped from Cartesian samples, or gridded from the centre of a trajectory.

    Parameters
    ----------
    kspace : KSpace
        Scan.
    width : int, optional
        Maximum width; default as sampled, up to 24.
    device : torch.device
        Device of the result.

    Raises
    ------
    MeasurementError
        If no centre was sampled.
    """
    largest = width or LARGEST_CENTRE
    if kspace.calibration is not None:
        measured = torch.tensor(kspace.calibration, device=device)
        return centre(measured, (min(measured.shape[2], largest), min(measured.shape[3], largest)))
    if kspace.mask is None:
        return _gridded_centre(kspace, min(largest, *kspace.volume_shape[1:]), device)
    height, breadth = sampled_centre(kspace.mask)
    if min(height, breadth) < min(_SMALLEST, *kspace.volume_shape[1:]):
        raise MeasurementError(
            f"coil_maps: {kspace.source} has no fully sampled centre (found {height} × {breadth} samples) to estimate "
            "coil maps from; give coil_maps=FILE."
        )
    return centre(torch.tensor(kspace.data, device=device), (min(height, largest), min(breadth, largest)))


def centre(array: Tensor, shape: tuple[int, int]) -> Tensor:
    """Crop the central ``shape`` of the last two axes, DC staying at index ``n // 2``."""
    rows, columns = central_slices((array.shape[-2], array.shape[-1]), shape)
    return array[..., rows, columns]


def central_slices(grid: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of the central ``shape`` of a grid, DC staying at index ``n // 2``."""
    rows, columns = (
        slice(length // 2 - size // 2, length // 2 - size // 2 + size)
        for length, size in zip(grid, shape, strict=True)
    )
    return rows, columns


def _gridded_centre(kspace: KSpace, width: int, device: torch.device) -> Tensor:
    """Grid the centre of k-space from a trajectory: least squares for a low-resolution image of every coil."""
    trajectory = torch.tensor(kspace.trajectory)
    inside = (trajectory.abs() <= width / 2).all(dim=-1)
    if int(inside.sum()) < width**2:
        raise MeasurementError(
            f"coil_maps: the trajectory of {kspace.source} has {int(inside.sum())} samples in a centre of {width}², "
            "too few for coil maps; lower calibration_width, or give coil_maps=FILE."
        )
    data = torch.tensor(kspace.data)[:, :, inside].flatten(0, 1)[:, None, None]
    single = torch.ones((1, 1, width, width), dtype=torch.complex64).expand(len(data), -1, -1, -1)
    operator = NonCartesianSense(single, trajectory[inside][None])
    rhs = operator.adjoint(data)
    gram: Callable[[Tensor], Tensor] = lambda x: operator.adjoint(operator.forward(x))  # noqa: E731
    images = conjugate_gradient(gram, rhs, torch.zeros_like(rhs), _GRIDDING_ITERATIONS)
    return centred_fft(images).reshape(*kspace.data.shape[:2], width, width).to(device)


def low_resolution_images(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    """Compute images (z, coil, y, x) of the centre of k-space, apodised by a Hann window against ringing."""
    height, width = calibration.shape[-2:]
    # Symmetric about DC, index n // 2: otherwise it would add a phase.
    window = torch.outer(*(torch.hann_window(n + n % 2, dtype=torch.float32)[n % 2 :] for n in (height, width)))
    return centred_ifft(_padded(calibration * window.to(calibration.device), shape))


def _padded(samples: Tensor, shape: tuple[int, int]) -> Tensor:
    """Zero-fill the last two axes to ``shape``, DC going from ``n // 2`` to ``n // 2``."""
    pads: list[int] = []
    for length, size in reversed(list(zip(samples.shape[-2:], shape, strict=True))):
        before = size // 2 - length // 2
        pads += [before, size - length - before]
    return F.pad(samples, pads)


def espirit(
    calibration: Tensor, shape: tuple[int, int], check: Callable[[], None], noise: float | None = None
) -> Tensor:
    """Estimate coil sensitivities by ESPIRiT (Uecker et al. 2014), one set of maps.

    Where the noise is known, kernels are weighted by how far they are above it instead of cut off at a threshold
    (record: docs/research/mri-coil-maps.md).

    Parameters
    ----------
    calibration : Tensor
        Shape (z, coil, cy, cx), complex.
    shape : tuple of int
        Height and width of the maps.
    check : callable
        Called for every slice; may raise to stop.
    noise : float, optional
        Root mean square of the noise of the samples.

    Returns
    -------
    Tensor
        Shape (z, coil, y, x); ``sum_c |S_c|^2`` is 1 where the calibration data explain the pixel and falls to 0
        where they do not. The phase of the first coil is 0.
    """
    maps = []
    for one in calibration:
        check()
        maps.append(_espirit_slice(one, shape, noise))
    return torch.stack(maps)


def _espirit_slice(calibration: Tensor, shape: tuple[int, int], noise: float | None) -> Tensor:
    coils = len(calibration)
    # Kernels wider than half of few lines leave too few positions to separate signal from noise.
    kernel = tuple(max(1, min(_KERNEL, length // 2)) for length in calibration.shape[1:])
    blocks = calibration.unfold(1, kernel[0], 1).unfold(2, kernel[1], 1)  # (coil, row, column, ky, kx)
    matrix = blocks.permute(1, 2, 0, 3, 4).reshape(-1, coils * kernel[0] * kernel[1])
    values, vectors = torch.linalg.eigh((matrix.mH @ matrix).to(torch.complex128))
    signal = (vectors * _weights_of_kernels(values, matrix.shape, noise) ** 0.5).to(calibration.dtype)
    # Signal kernels times their conjugates, summed: in the image domain, an autocorrelation of the kernels, which the
    # Fourier transform of its (2 k - 1)-wide support interpolates to any size.
    projector = (signal @ signal.mH).conj().reshape(coils, *kernel, coils, *kernel)
    correlation = calibration.new_zeros((coils, coils, 2 * kernel[0] - 1, 2 * kernel[1] - 1))
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            part = projector[:, :, :, :, row, column].permute(0, 3, 1, 2)
            rows = slice(kernel[0] - 1 - row, 2 * kernel[0] - 1 - row)
            columns = slice(kernel[1] - 1 - column, 2 * kernel[1] - 1 - column)
            correlation[:, :, rows, columns] += part
    scale = (shape[0] * shape[1]) ** 0.5 / (kernel[0] * kernel[1])
    covariance = (centred_ifft(_padded(correlation, shape)) * scale).permute(2, 3, 0, 1).contiguous()
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    eigenvalue, vector = eigenvalues[..., -1:, None], eigenvectors[..., -1:]
    reference = vector[..., :1, :]
    vector = vector * (reference.conj() / reference.abs().clamp(min=1e-12))
    maps: Tensor = (vector * _support(eigenvalue, _CUT_OFF if noise is None else _WEIGHTED))[..., 0].permute(2, 0, 1)
    return maps.contiguous()


def _weights_of_kernels(values: Tensor, shape: torch.Size, noise: float | None) -> Tensor:
    """Return weights of singular vectors by their squared singular values: 1 for signal, 0 for noise.

    Noise alone has none above the edge of Marchenko and Pastur (1967).
    """
    if noise is None:
        return (values > _NULL_SPACE**2 * values.max()).to(values.dtype)
    least, most = (part**2 * values.max() for part in (_LEAST_OF_NOISE, _MOST_OF_NOISE))
    edge = values.new_tensor(noise * (shape[0] ** 0.5 + shape[1] ** 0.5)).square().clamp(least, most)
    edge = edge.clamp(min=torch.finfo(edge.dtype).tiny)  # An empty slice has no kernels.
    return 1 - edge / values.clamp(min=edge)


def _support(eigenvalue: Tensor, ends: tuple[float, float]) -> Tensor:
    """Return the weight of a pixel: 1 for eigenvalues near 1, falling smoothly to 0 without signal."""
    ramp = ((eigenvalue - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def compression_matrix(calibration: Tensor, coils: int) -> Tensor:
    """Return the matrix (coils, coil) to the virtual coils with most of the signal (Buehrer et al. 2007)."""
    samples = calibration.transpose(0, 1).flatten(1)
    _, vectors = torch.linalg.eigh((samples @ samples.mH).to(torch.complex128))
    matrix: Tensor = vectors.flip(1)[:, :coils].mH.to(calibration.dtype)
    return matrix


def compress(array: Tensor, matrix: Tensor) -> Tensor:
    """Return the virtual coils of an array (z, coil, ...)."""
    return torch.einsum("vc,zc...->zv...", matrix, array)


def smooth_phase(images: Tensor, coil_maps: Tensor) -> Tensor:
    """Return phase factors (z, y, x) of the coil-combined low-resolution images (z, coil, y, x)."""
    combined = (coil_maps.conj() * images).sum(dim=1)
    return combined / combined.abs().clamp(min=torch.finfo(torch.float32).tiny)
