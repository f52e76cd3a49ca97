"""Noise of receivers, and the matrix that whitens their coils.

Pruessmann et al., Magn. Reson. Med. 46 (2001) 638, appendix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_d3ip.measurement import ComplexArray


@dataclass(frozen=True)
class Noise:
    """Samples that receivers measured without a signal.

    Parameters
    ----------
    readouts : sequence of ndarray
        Each of shape (coil, sample), complex.
    dwell : float
        Time per sample in microseconds, 0 if unknown.
    bandwidth : float
        Ratio of the receiver's mean noise response to that in the passband.
    note : str
        What they were taken from, for provenance.
    """

    readouts: Sequence[ComplexArray]
    dwell: float = 0.0
    bandwidth: float = 1.0
    note: str = ""

    def samples(self, coils: int) -> ComplexArray | None:
        """Return the samples (coil, sample) of readouts with this number of coils, None if there are none."""
        fitting = [readout for readout in self.readouts if len(readout) == coils]
        return np.concatenate(fitting, axis=1) if fitting else None

    def whitening(self, coils: int, dwell: float) -> ComplexArray | None:
        """Return the matrix that decorrelates the noise of the coils and scales its power to 1.

        The noise power of a sample is inversely proportional to its dwell time.

        Parameters
        ----------
        coils : int
            Number of coils of the scan.
        dwell : float
            Time per sample of the scan in microseconds, 0 if unknown.

        Returns
        -------
        ndarray or None
            Shape (coil, coil); None if the noise of the coils is not independent, or of others.
        """
        samples = self.samples(coils)
        if samples is None:
            return None
        exact = samples.astype(np.complex128)
        covariance = exact @ exact.conj().T / exact.shape[1]
        if self.dwell > 0 and dwell > 0:
            covariance *= self.dwell / dwell
        try:
            inverse = np.linalg.inv(np.linalg.cholesky(covariance / self.bandwidth))
        except np.linalg.LinAlgError:
            return None
        return inverse.astype(np.complex64)


def combine_coils(matrix: ComplexArray, data: ComplexArray) -> ComplexArray:
    """Return linear combinations of coils of data (z, coil, y, x), a row of the matrix each."""
    combined: ComplexArray = np.einsum("ij,zjyx->ziyx", matrix, data)
    return combined
