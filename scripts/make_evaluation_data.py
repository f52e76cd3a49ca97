"""Make simulated scans of other volumes than the bundled sample, for tuning and for testing.

Settings (weights of total variation and the like) are tuned on the abdomen and the head; the chest, which is the
bundled sample, is for testing only. The scans are made as the sample is: projected with ASTRA's strip kernel from a
grid twice as fine, with noise. Nothing written here belongs into the repository::

    pip download --no-deps --no-binary :all: totalsegmentator==2.18.0
    pip download --no-deps nilearn==0.14.1
    pip install numpy scipy nibabel astra-toolbox
    python scripts/make_evaluation_data.py --totalsegmentator totalsegmentator-2.18.0.tar.gz \
        --nilearn nilearn-0.14.1-py3-none-any.whl -o eval

Without ``--volume`` the standard set is made: abdomen, head and chest, 30 views over 180 degrees with 1 % noise
(abdomen and head) and 45 views over 90 degrees with 0.5 % noise (all three). Each npz holds a scan and its truth:
``data`` (z, angle, detector), ``angles``, ``center``, ``voxel_size``, ``unit``, ``provenance`` and ``reference``
(z, y, x).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _foreign_projection import (
    WATER_PER_MM,
    Scan,
    block_mean,
    check_against_linear,
    fit_square,
    hounsfield_to_attenuation,
    read_nifti,
    simulate,
    sinogram_arrays,
    upsample,
)
from make_samples import CHEST, CHEST_SLICES

ABDOMEN = "tests/reference_files/example_ct.nii.gz"
HEAD = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
FIRST = {"abdomen": 60, "head": 30, "chest": CHEST_SLICES.start // 2}
"""First slice (of the coarse ones) of each volume."""

STANDARD = [
    ("abdomen", 30, 180.0, 0.01, "abdomen_30v"),
    ("abdomen", 45, 90.0, 0.005, "abdomen_90deg"),
    ("head", 30, 180.0, 0.01, "head_30v"),
    ("head", 45, 90.0, 0.005, "head_90deg"),
    ("chest", 45, 90.0, 0.005, "chest_90deg"),
]
"""Volume, views, angular range, noise and file name of the standard set."""


def load_fine(
    name: str, totalsegmentator: Path | None, nilearn: Path | None, size: int, first: int, slices: int
) -> tuple[np.ndarray, float, float, str]:
    """Fine attenuation volume of a name.

    Parameters
    ----------
    name : {"abdomen", "head", "chest"}
        Volume.
    totalsegmentator, nilearn : Path or None
        Packages.
    size : int
        Coarse pixels across a slice; the fine slices have twice as many.
    first, slices : int
        First coarse slice and number of coarse slices.

    Returns
    -------
    fine : ndarray
        (slices, 2 size, 2 size) attenuation per millimetre.
    fine_mm, slice_mm : float
        Fine pixel size and distance of slices.
    source : str
        For the provenance.
    """
    package = nilearn if name == "head" else totalsegmentator
    if package is None:
        raise SystemExit(f"{name} needs --{'nilearn' if name == 'head' else 'totalsegmentator'}")
    if name == "abdomen":
        volume, (z, y, _) = read_nifti(package, ABDOMEN)
        coarse = fit_square(hounsfield_to_attenuation(volume[first : first + slices]), size)
        return upsample(coarse, 2), y / 2, z, f"totalsegmentator 2.18.0, {ABDOMEN}, upsampled linearly"
    if name == "chest":
        volume, (z, y, _) = read_nifti(package, CHEST)
        volume, source = hounsfield_to_attenuation(volume), f"totalsegmentator 2.18.0, {CHEST}"
    else:
        volume, (z, y, _) = read_nifti(package, HEAD)
        # A magnetic-resonance template is no attenuation; scaled so that its brightest tissue absorbs as water does.
        volume, source = volume * (WATER_PER_MM / np.percentile(volume, 99.5)), f"nilearn 0.14.1, {HEAD}, scaled"
    volume = fit_square(volume[2 * first : 2 * (first + slices)], 2 * size)
    return block_mean(volume, (2, 1, 1)), y, 2 * z, source


def save(path: Path, scan: Scan) -> None:
    """Write a scan and its truth to one npz."""
    arrays = sinogram_arrays(
        scan.sinogram,
        scan.angles,
        (scan.sinogram.shape[2] - 1) / 2,
        scan.voxel_size,
        "millimeter",
        {"title": path.stem, **scan.provenance},
    )
    np.savez_compressed(path, reference=scan.reference, **arrays)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--totalsegmentator", type=Path, help="totalsegmentator sdist or folder")
    parser.add_argument("--nilearn", type=Path, help="nilearn wheel or folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--volume", choices=sorted(FIRST), help="make one scan of this volume, as the options say")
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument("--angular-range", type=float, default=180.0, help="degrees, from 0")
    parser.add_argument("--noise", type=float, default=0.01, help="relative to the mean line integral")
    parser.add_argument("--size", type=int, default=128, help="pixels across a slice (padded or cropped)")
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--first-slice", type=int, help="first of the slices, counted in coarse slices")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    jobs = STANDARD
    if options.volume:
        name = f"{options.volume}_{options.views}v_{options.angular_range:g}deg"
        jobs = [(options.volume, options.views, options.angular_range, options.noise, name)]
    for volume, views, angular_range, noise, name in jobs:
        first = FIRST[volume] if options.first_slice is None else options.first_slice
        fine, fine_mm, slice_mm, source = load_fine(
            volume, options.totalsegmentator, options.nilearn, options.size, first, options.slices
        )
        scan = simulate(
            fine,
            fine_mm,
            slice_mm,
            views=views,
            angular_range=angular_range,
            noise=noise,
            seed=options.seed,
            source=source,
        )
        path = options.output / f"{name}.npz"
        save(path, scan)
        print(f"{path}: {scan.sinogram.shape}, differs from ASTRA linear by {check_against_linear(scan):.4f}")


if __name__ == "__main__":
    main()
