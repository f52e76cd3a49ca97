"""Make simulated scans of other volumes than the bundled sample, for tuning and for testing.

Settings (weights of total variation and the like) are tuned on the abdomen, the two images of heads and the X-ray
micrograph of concrete; the others are for testing only. The scans are made as the sample is: projected with ASTRA's
strip kernel from a grid twice as fine, with noise. Nothing written here belongs into the repository::

    pip download --no-deps --no-binary :all: totalsegmentator==2.18.0
    pip download --no-deps nilearn==0.14.1
    pip install . astra-toolbox
    python scripts/make_evaluation_data.py --totalsegmentator totalsegmentator-2.18.0.tar.gz \
        --nilearn nilearn-0.14.1-py3-none-any.whl -o eval

With ``--volume`` the scan that the options say, or those that ``--tasks`` names as `napari-d3ip evaluate` does, photon
counts too. Without it the standard set is made. CT: 30 views over 180 degrees with 1 % noise, and 45 views over 90
degrees with 0.5 % noise, of abdomen, head and a head's T1 image (for tuning), and of the chest, concrete, snow and a
monkey's brain (for testing; the chest with 30 views is the bundled sample). Further needs: the wheel of spam 0.9.1
(``--spam``) and Debian's mricron-data (``--mricron``, its folder). Each npz holds a scan and its truth:
``data`` (z, angle, detector), ``angles``, ``center``, ``voxel_size``, ``unit``, ``provenance`` and ``reference``
(z, y, x).

MRI (``--kind mri``): the brain template and an abdomen, for tuning; a whole head and an echo-planar series, for
testing; 8 coils, every fourth line with 8 % in the centre, and 8-fold Poisson disc; and a measured phantom with two
coils, every fourth line. Each NAME.npz holds k-space as `napari_d3ip.io.save_kspace` writes it, NAME_reference.npy the
magnitude of a full scan. Further needs: sigpy, twixtools, nibabel with its tests' data (``--nibabel``, the wheel),
Debian's mricron-data (``--mricron``, its folder) and the sdist of twixtools 0.24 (``--twixtools``).
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from _foreign_mri import GRE, read_gre, refined, root_sum_of_squares, scan
from _foreign_projection import (
    WATER_PER_MM,
    Scan,
    check_against_linear,
    hounsfield_to_attenuation,
    simulate,
    sinogram_arrays,
    upsample,
)
from _public_volumes import block_mean, fit, read_member, read_nifti
from make_samples import BRAIN, CHEST, CHEST_SLICES

from napari_d3ip.evaluate.tasks import parse_tasks
from napari_d3ip.io import save_kspace
from napari_d3ip.measurement import KSpace
from napari_d3ip.simulate.sampling import sampling_mask

ABDOMEN = "tests/reference_files/example_ct.nii.gz"
T1, PRIMATE = "templates/ch2.nii.gz", "templates/inia19-t1-brain.nii.gz"
MICROGRAPHS = {
    "xray": "spam/data/concrete/concrete_x-ray-bin16.tif",
    "concrete": "spam/data/concrete/concrete_neutron-bin16.tif",
    "snow": "spam/data/snow/snow.tif",
}
FIRST = {
    "abdomen": 60,
    "head": 30,
    "chest": CHEST_SLICES.start // 2,
    "xray": 34,
    "concrete": 34,
    "snow": 34,
    "t1": 30,
    "primate": 18,
}
"""First slice (of the coarse ones) of each volume."""

STANDARD = [
    ("abdomen", 30, 180.0, 0.01, "abdomen_30v"),
    ("abdomen", 45, 90.0, 0.005, "abdomen_90deg"),
    ("head", 30, 180.0, 0.01, "head_30v"),
    ("head", 45, 90.0, 0.005, "head_90deg"),
    ("chest", 45, 90.0, 0.005, "chest_90deg"),
    *(
        (name, *task, f"{name}_{label}")
        for name in ("concrete", "snow", "primate", "t1")
        for label, task in {"30v": (30, 180.0, 0.01), "90deg": (45, 90.0, 0.005)}.items()
    ),
]
"""Volume, views, angular range, noise and file name of the standard set."""


@dataclass(frozen=True)
class Anatomy:
    """A real MR volume to scan: the option that names its package, the file there, its slices, the scan's grid.

    ``finer`` says that the file's voxels are half of the scan's; otherwise they are interpolated.
    """

    package: str
    file: str
    slices: slice
    shape: tuple[int, int]
    finer: bool

    def load(self, package: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Fine volume (z, 2 y, 2 x) and the scan's voxel size."""
        volume, (z, y, x) = read_nifti(package, self.file)
        volume = np.maximum(volume[self.slices], 0)
        if not self.finer:
            return refined(fit(volume, self.shape)), (z, y, x)
        fine = fit(volume, (2 * self.shape[0], 2 * self.shape[1]))
        return block_mean(fine, (2, 1, 1)), (2 * z, 2 * y, 2 * x)


ANATOMIES = {
    "brain": Anatomy("nilearn", BRAIN, slice(60, 108), (128, 112), True),
    "head": Anatomy("mricron", "templates/ch2.nii.gz", slice(64, 112), (128, 112), True),
    "abdomen": Anatomy(
        "totalsegmentator", "tests/reference_files/example_mr_sm.nii.gz", slice(0, 20), (112, 128), False
    ),
    "epi": Anatomy("nibabel", "tests/data/example4d.nii.gz", slice(0, 24), (112, 128), False),
}
MASKS = {"uniform4": ("uniform", 4.0), "poisson8": ("poisson", 8.0)}


PACKAGES = {
    "head": "nilearn",
    "t1": "mricron",
    "primate": "mricron",
    "xray": "spam",
    "concrete": "spam",
    "snow": "spam",
}
"""Option that names a volume's package; totalsegmentator for the others."""


def load_fine(
    name: str, packages: argparse.Namespace, size: int, first: int, slices: int
) -> tuple[np.ndarray, float, float, str]:
    """Fine attenuation volume of a name.

    Parameters
    ----------
    name : str
        Volume, see ``FIRST``.
    packages : Namespace
        Options that name packages.
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
    option = PACKAGES.get(name, "totalsegmentator")
    package = vars(packages)[option]
    if package is None:
        raise SystemExit(f"{name} needs --{option}")
    if name == "abdomen":
        volume, (z, y, _) = read_nifti(package, ABDOMEN)
        coarse = fit(hounsfield_to_attenuation(volume[first : first + slices]), (size, size))
        return upsample(coarse, 2), y / 2, z, f"totalsegmentator 2.18.0, {ABDOMEN}, upsampled linearly"
    if name in MICROGRAPHS:
        coarse = fit(core(package, MICROGRAPHS[name])[first : first + slices], (size, size))
        return upsample(coarse, 2), 0.5, 1.0, f"spam 0.9.1, {MICROGRAPHS[name]}, round core, upsampled linearly"
    if name == "chest":
        volume, (z, y, _) = read_nifti(package, CHEST)
        volume, source = hounsfield_to_attenuation(volume), f"totalsegmentator 2.18.0, {CHEST}"
    else:
        file, source = {
            "head": (BRAIN, "nilearn 0.14.1"),
            "t1": (T1, "mricron-data"),
            "primate": (PRIMATE, "mricron-data"),
        }[name]
        volume, (z, y, _) = read_nifti(package, file)
        # A magnetic-resonance image is no attenuation; scaled so that its brightest tissue absorbs as water does.
        volume, source = volume * (WATER_PER_MM / np.percentile(volume, 99.5)), f"{source}, {file}, scaled"
    volume = fit(volume[2 * first : 2 * (first + slices)], (2 * size, 2 * size))
    return block_mean(volume, (2, 1, 1)), y, 2 * z, source


def core(package: Path, file: str) -> np.ndarray:
    """Micrograph (z, y, x) whose darkest voxels are empty, cut to a cylinder, as a drilled sample is."""
    volume = tifffile.imread(io.BytesIO(read_member(package, file))).astype(np.float32)
    dark, bright = np.percentile(volume, (1, 99))
    y, x = (np.arange(length) - (length - 1) / 2 for length in volume.shape[1:])
    inside = np.hypot(y[:, None], x) <= min(volume.shape[1:]) / 2 - 1
    return np.clip((volume - dark) / (bright - dark), 0, None) * (WATER_PER_MM * inside)


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


def make_mri(packages: argparse.Namespace) -> None:
    """Make the standard set of k-space files."""
    for name, anatomy in ANATOMIES.items():
        package = vars(packages)[anatomy.package]
        if package is None:
            raise SystemExit(f"{name} needs --{anatomy.package}")
        fine, voxel_size = anatomy.load(package)
        for label, (pattern, acceleration) in MASKS.items():
            mask = sampling_mask(anatomy.shape, acceleration, pattern, seed=packages.seed)
            k_space, reference = scan(
                fine,
                mask,
                noise=0.08,
                seed=packages.seed,
                voxel_size=voxel_size,
                source=f"{name}_{label}",
                provenance={
                    "source": f"{anatomy.package}, {anatomy.file}",
                    "mask": f"{pattern}, {acceleration:g}-fold",
                },
            )
            save_mri(packages.output, k_space, reference)
    if packages.twixtools is None:
        raise SystemExit("the phantom needs --twixtools")
    full = read_gre(packages.twixtools)
    mask = sampling_mask(full.shape[2:], 4, "uniform")
    k_space = KSpace(
        full * mask, mask=mask, source="phantom_uniform4", provenance={"source": f"twixtools 0.24, {GRE}, measured"}
    )
    save_mri(packages.output, k_space, root_sum_of_squares(full))


def save_mri(folder: Path, k_space: KSpace, reference: np.ndarray) -> None:
    """Write k-space and the magnitude of a full scan."""
    path = folder / f"{k_space.source}.npz"
    save_kspace(path, k_space)
    np.save(folder / f"{k_space.source}_reference.npy", reference)
    print(f"{path}: {k_space.data.shape}, {k_space.acceleration:.2f}-fold")


def jobs(options: argparse.Namespace) -> list[tuple[str, dict[str, Any], str]]:
    """Volume, keywords of `simulate` and file name of each scan to make."""
    if options.volume is None:
        return [
            (volume, {"views": views, "angular_range": angular_range, "noise": noise}, name)
            for volume, views, angular_range, noise, name in STANDARD
        ]
    if options.tasks is None:
        name = f"{options.volume}_{options.views}v_{options.angular_range:g}deg"
        scanned = {"views": options.views, "angular_range": options.angular_range, "noise": options.noise}
        return [(options.volume, scanned, name)]
    made = []
    for task in parse_tasks(options.tasks):
        if task.kind != "sinogram":
            raise SystemExit(f"{task.name} is a task of MRI; make those with --kind mri")
        noise = 0.0 if "photons" in task.options else options.noise
        scanned = {"noise": noise, **task.options}
        scanned["angular_range"] = scanned.pop("angle_range")
        made.append((options.volume, scanned, f"{options.volume}_{task.name}"))
    return made


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--totalsegmentator", type=Path, help="totalsegmentator sdist or folder")
    parser.add_argument("--nilearn", type=Path, help="nilearn wheel or folder")
    parser.add_argument("--mricron", type=Path, help="folder of Debian's mricron-data")
    parser.add_argument("--spam", type=Path, help="spam wheel or folder")
    parser.add_argument("--nibabel", type=Path, help="nibabel wheel or folder (mri)")
    parser.add_argument("--twixtools", type=Path, help="twixtools sdist or folder (mri)")
    parser.add_argument("--kind", choices=("ct", "mri"), default="ct")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--volume", choices=sorted(FIRST), help="make scans of this volume, as the options say")
    parser.add_argument("--tasks", nargs="+", help="names as of evaluate: views20_noise0.03, angle90_photons1e4, ct")
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument("--angular-range", type=float, default=180.0, help="degrees, from 0")
    parser.add_argument("--noise", type=float, default=0.01, help="relative to the mean line integral")
    parser.add_argument("--size", type=int, default=128, help="pixels across a slice (padded or cropped)")
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument(
        "--bin", type=int, nargs=2, default=(1, 1), metavar=("Z", "XY"), help="join slices and pixels: a smaller scan"
    )
    parser.add_argument("--first-slice", type=int, help="first of the slices, counted in coarse slices")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.kind == "mri":
        make_mri(options)
        return
    for volume, scanned, name in jobs(options):
        first = FIRST[volume] if options.first_slice is None else options.first_slice
        z, xy = options.bin
        fine, fine_mm, slice_mm, source = load_fine(volume, options, options.size, first, options.slices)
        scan = simulate(
            block_mean(fine, (z, xy, xy)),
            fine_mm * xy,
            slice_mm * z,
            seed=options.seed,
            source=source,
            **scanned,
        )
        path = options.output / f"{name}.npz"
        save(path, scan)
        print(f"{path}: {scan.sinogram.shape}, differs from ASTRA linear by {check_against_linear(scan):.4f}")


if __name__ == "__main__":
    main()
