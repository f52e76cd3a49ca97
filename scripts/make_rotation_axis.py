"""Measure how well the rotation axis is found: ``python scripts/make_rotation_axis.py -o FILE.csv [SCAN...]``.

40 scans of phantoms are simulated with an axis beside the middle of the detector: few and many views over 180° and
360°, little and much noise, some wider than the detector; half by this package's projector on a grid twice as fine,
half by ASTRA's area-weighted kernel. SCAN... are files with an axis that they state (``center``), which is not used.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import napari_d3ip as d3
from napari_d3ip.alignment.rotation_axis import find_axis
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.projector import projector
from napari_d3ip.prior.phantoms import MixedPhantoms

DETECTORS, SLICES, FINER = 128, 3, 2
# Width of the object in parts of the detector, where it is seen whole and where it is not.
WHOLE, WIDER = 0.8, 1.3


@dataclass(frozen=True)
class Case:
    views: int
    degrees: float
    noise: float
    width: float
    by: str
    seed: int

    @property
    def name(self) -> str:
        cut = ", truncated" if self.width > 1 else ""
        return f"{self.views} views over {self.degrees:g}°, noise {self.noise:.0%}{cut}, by {self.by}"


def cases() -> Iterator[Case]:
    seed = 0
    for by, degrees, noise in product(("joseph", "astra"), (180.0, 360.0), (0.01, 0.05)):
        for views, width in ((30, WHOLE), (60, WHOLE), (91, WHOLE), (180, WHOLE), (90, WIDER)):
            seed += 1
            yield Case(views, degrees, noise, width, by, seed)


def simulate(case: Case) -> tuple[Sinogram, float]:
    """Return a scan that states no axis, and its axis."""
    generator = np.random.default_rng(case.seed)
    center = (DETECTORS - 1) / 2 + float(generator.uniform(-12, 12))
    size = round(case.width * DETECTORS) * FINER
    draws = torch.Generator().manual_seed(case.seed)
    volume = MixedPhantoms(size=size).draw(SLICES, draws)[:, 0].numpy()
    # A circle within the image, so that nothing but the detector cuts it.
    y, x = np.indices((size, size)) - (size - 1) / 2
    volume = volume * (np.hypot(x, y) < 0.49 * size)
    # Half turns with an odd number of views end with the mirror image of the first.
    is_closed = case.views % 2 == 1 and case.degrees == 180
    angles = np.linspace(0, case.degrees, case.views, endpoint=is_closed)
    fine = (center + 0.5) * FINER - 0.5
    project = {"joseph": _by_joseph, "astra": _by_astra}[case.by]
    integrals = project(volume, angles, DETECTORS * FINER, fine) / FINER
    data = integrals.reshape(SLICES, case.views, DETECTORS, FINER).mean(axis=-1)
    data = data + generator.normal(0, case.noise * np.abs(data).mean(), data.shape)
    return Sinogram(data.astype(np.float32), angles, source=case.name), center


def _by_joseph(volume: npt.NDArray[np.float32], angles: npt.NDArray[np.float64], detectors: int, center: float):
    operator = projector(Beam(angles, detectors, center), volume.shape[1:])
    return operator(torch.from_numpy(np.ascontiguousarray(volume, np.float32))).numpy()


def _by_astra(volume: npt.NDArray[np.float32], angles: npt.NDArray[np.float64], detectors: int, center: float):
    import astra

    turns = np.deg2rad(angles)
    along = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    rays = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    geometry = astra.create_proj_geom(
        "parallel_vec", detectors, np.hstack([rays, along * ((detectors - 1) / 2 - center), along])
    )
    size = volume.shape[1]
    matrix_id = astra.projector.matrix(astra.create_projector("strip", geometry, astra.create_vol_geom(size, size)))
    matrix = astra.matrix.get(matrix_id)
    astra.clear()
    return (matrix @ volume.reshape(len(volume), -1).T).T.reshape(len(volume), len(angles), detectors)


def scans(files: list[Path]) -> Iterator[tuple[str, Sinogram, float]]:
    for file in files:
        scan = d3.read(file)
        assert isinstance(scan, Sinogram)
        yield file.name, replace(scan, center=None), scan.axis
    for case in cases():
        yield case.name, *simulate(case)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("scans", type=Path, nargs="*")
    given = parser.parse_args(arguments)
    errors = []
    with given.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("scan", "axis", "found", "error", "deviation", "seconds", "method"))
        for name, scan, center in scans(given.scans):
            start = time.perf_counter()
            axis = find_axis(scan)
            seconds = time.perf_counter() - start
            errors.append(abs(axis.center - center))
            numbers = (center, axis.center, axis.center - center, axis.deviation)
            row = (name, *(f"{number:.3f}" for number in numbers), f"{seconds:.1f}", axis.method)
            table.writerow(row)
            file.flush()
            print(*row, sep=", ")
    print(f"{sum(error <= 0.25 for error in errors)} of {len(errors)} within 0.25 pixel; most {max(errors):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
