"""How well views that were left out are predicted by a reconstruction of the others.

A scan whose description is right predicts them; one with a wrong axis, wrong angles or wrong values does not. No
knowledge of priors or settings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_d3ip.measurement import BoolArray, FloatArray, Sinogram
from napari_d3ip.operators.base import Check, Masked, no_check
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.solvers.classical import least_squares

# Iterations after which views left out are predicted; the best of them counts.
_LOOKED_AT = (6, 12)


@dataclass(frozen=True)
class Prediction:
    """Views as the others predict them.

    Parameters
    ----------
    predicted : ndarray
        Shape (z, angle, detector), in the units of the scan.
    target : ndarray of bool
        Shape (z, angle, detector), rays that were predicted and measured.
    """

    predicted: FloatArray
    target: BoolArray

    def squares(self, measured: FloatArray) -> npt.NDArray[np.float64]:
        """Return the squared residual of each view, shape (angle,); NaN for those that were not left out."""
        difference = (self.predicted - measured).astype(np.float64) ** 2 * self.target
        count = self.target.sum(axis=(0, 2))
        total = difference.sum(axis=(0, 2))
        return np.where(count > 0, total, np.nan)


def predict_left_out(scan: Sinogram, *, every: int = 5, folds: int = 2, check: Check = no_check) -> Prediction:
    """Predict views of a scan from reconstructions that have not seen them.

    Conjugate gradients that are stopped early; of a few numbers of iterations, the one that predicts best counts.

    Parameters
    ----------
    scan : Sinogram
        Small enough to be reconstructed in a second.
    every : int
        One view in so many is left out of a reconstruction.
    folds : int
        Reconstructions, each without other views; ``every`` of them predict all views.
    check : callable
        Called in each iteration; what it raises ends the prediction.
    """
    operator = JosephMatrix.from_sinogram(scan)
    data, count = torch.tensor(scan.data), min(folds, every)
    measured = torch.ones_like(data)
    if scan.mask is not None:
        measured *= torch.tensor(scan.mask)
    order = np.argsort(scan.angles, kind="stable")
    left_out = torch.zeros((count, 1, len(order), 1), dtype=data.dtype)
    for fold in range(count):
        # Neighbours by angle: leaving out every fifth frame of an interlaced scan could leave out a whole turn.
        left_out[fold, :, torch.from_numpy(order[(fold + every // 2) % every :: every].copy())] = 1
    targets = left_out * measured
    predictions = _best_predictions(operator, data, measured - targets, targets, check)
    return Prediction((left_out * predictions).sum(dim=0).numpy(), targets.sum(dim=0).numpy() > 0)


def _best_predictions(
    operator: JosephMatrix, data: torch.Tensor, used: torch.Tensor, targets: torch.Tensor, check: Check
) -> torch.Tensor:
    """Return the predictions of all folds, shape (fold, z, angle, detector), which are reconstructed side by side."""
    folds, slices = targets.shape[:2]
    flat = used.flatten(0, 1)
    start = torch.zeros((folds * slices, *operator.domain_shape), dtype=data.dtype)
    best, least = torch.zeros_like(targets), torch.full((folds, 1, 1, 1), torch.inf, dtype=data.dtype)
    repeated = data.repeat(folds, 1, 1) * flat
    fitted = least_squares(Masked(operator, flat), repeated, start, max(_LOOKED_AT), check=check)
    for number, volumes in enumerate(fitted, start=1):
        if number in _LOOKED_AT:
            predictions = operator(volumes).unflatten(0, (folds, slices))
            loss = (((predictions - data) * targets) ** 2).sum(dim=(1, 2, 3), keepdim=True)
            best, least = torch.where(loss < least, predictions, best), torch.minimum(loss, least)
    return best
