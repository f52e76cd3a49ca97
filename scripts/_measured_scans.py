"""Tasks made of measured scans, and what a volume is worth in each. Needs astra-toolbox (GPL-3) and scikit-image.

The folder has, as npz: ``mri_brain16`` (`kspace`, masks `mask_u4` and `mask_p8`, `reference_sense`, `reference_rss`:
the coil combination and the root sum of squares of the full scan), ``ct_rod3d`` and ``ct_tooth`` (`data`, `angles`,
`center`, and the numbers of views `keep_s3`, `keep_s6`, `keep_l120`), and ``ct_disk_ta`` and ``ct_disk_tb`` (fan beam,
`reference_segmentation` with its pixel size). Where they are from: docs/results.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _foreign_projection import AstraSlices
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.metrics import structural_similarity

import napari_d3ip as d3
from napari_d3ip.measurement import KSpace, Measurement, Sinogram

Array = np.ndarray
Score = dict[str, float]

_DISKS = {"ct_disk_ta": 100, "ct_disk_tb": 40}
"""First view of the range."""
TASKS = (
    *(f"mri_brain16_{mask}" for mask in ("u4", "p8")),
    *(f"{scan}_{views}" for scan in ("ct_rod3d", "ct_tooth") for views in ("s3", "s6", "l120")),
    *(f"{disk}_{degrees}" for disk in _DISKS for degrees in (90, 60, 30)),
)


@dataclass(frozen=True)
class Task:
    """A part of a measured scan to reconstruct from.

    Parameters
    ----------
    folder : Path
        Of the scans.
    name : str
        One of `TASKS`.
    """

    folder: Path
    name: str

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Arrays of the file."""
        with np.load(self.folder / f"{self.name.rpartition('_')[0]}.npz", allow_pickle=False) as file:
            return dict(file)

    @cached_property
    def scan(self) -> Measurement:
        """Scan to reconstruct from."""
        source, _, part = self.name.rpartition("_")
        if source == "mri_brain16":
            mask = self.arrays[f"mask_{part}"]
            return KSpace(self.arrays["kspace"] * mask, mask=mask)
        return self._views.select(views=self._kept)

    @cached_property
    def _views(self) -> Sinogram:
        source = self.name.rpartition("_")[0]
        scan = d3.read(self.folder / f"{source}.npz")
        assert isinstance(scan, Sinogram)
        return scan

    @cached_property
    def _kept(self) -> Array:
        """Whether each view is reconstructed from."""
        source, _, part = self.name.rpartition("_")
        kept = np.zeros(len(self._views.angles), bool)
        first = _DISKS.get(source)
        kept[self.arrays[f"keep_{part}"] if first is None else first + np.arange(2 * int(part) + 1)] = True
        return kept

    def score(self, volume: Array) -> Score:
        """Return the figures of a volume, the first of which decides."""
        if isinstance(self.scan, KSpace):
            return self._score_image(np.abs(volume[0]).astype(float))
        return self._score_disk(volume[0]) if "reference_segmentation" in self.arrays else self._score_views(volume)

    def _score_image(self, image: Array) -> Score:
        """Return PSNR and SSIM inside the head, after a least-squares scale."""
        reference, squares = self.arrays["reference_sense"].astype(float), self.arrays["reference_rss"]
        inside = ndimage.binary_fill_holes(squares > 0.1 * np.percentile(squares, 99))
        inside = ndimage.binary_dilation(inside, iterations=2)
        scale = (image[inside] * reference[inside]).sum() / np.square(image[inside]).sum()
        span = float(np.percentile(reference[inside], 99.9))
        error = np.square((scale * image - reference)[inside]).mean()
        similarity = structural_similarity(scale * image, reference, data_range=span, full=True)[1][inside].mean()
        return {"PSNR": float(10 * np.log10(span**2 / error)), "SSIM": float(similarity)}

    def _score_disk(self, image: Array) -> Score:
        """Return the Matthews correlation of Otsu's segmentation with the official one."""
        truth, pixel = self.arrays["reference_segmentation"], self.arrays["reference_pixel_mm"]
        middle = (image.shape[0] - 1) / 2
        grid = (np.arange(len(truth)) - (len(truth) - 1) / 2) * float(pixel / self.arrays["pixel_mm"]) + middle
        fine = ndimage.map_coordinates(image, np.meshgrid(grid, grid, indexing="ij"), order=3)
        return {"MCC": float(np.corrcoef((fine > threshold_otsu(fine)).ravel(), truth.ravel())[0, 1])}

    def _score_views(self, volume: Array) -> Score:
        """Return the root mean square of the views left out minus the volume's projections, at the best scale."""
        others = self._views.select(views=~self._kept)
        predicted = astra_projector(others).forward(volume)
        scale = (predicted * others.data).sum() / np.square(predicted).sum()
        return {"RMS": float(np.sqrt(np.square(scale * predicted - others.data).mean()))}


def astra_projector(scan: Sinogram) -> AstraSlices:
    """Return ASTRA's projector for a scan."""
    detectors = scan.data.shape[-1]
    fan = {}
    if scan.source_distance is not None:
        fan = {"fan": (scan.source_distance, scan.detector_distance, scan.detector_pitch)}
    return AstraSlices(scan.volume_shape[1], scan.angles, detectors, scan.center, **fan)


def without_every_sixth(scan: Sinogram) -> tuple[Sinogram, Sinogram]:
    """Return a scan without every sixth view, and these."""
    out = np.arange(len(scan.angles)) % 6 == 3
    return scan.select(views=~out), scan.select(views=out)


def best_by_views(scan: Sinogram, choices: list[Any], run: Callable[[Sinogram, Any], Array]) -> Any:
    """Return the choice whose volume of five sixths of the views predicts the others best."""
    kept, out = without_every_sixth(scan)
    project = astra_projector(out).forward
    return min(choices, key=lambda choice: float(np.square(project(run(kept, choice)) - out.data).mean()))
