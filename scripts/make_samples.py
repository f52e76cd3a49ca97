"""Make the bundled samples of `napari_d3ip.samples` from public packages.

Run once, by a maintainer; the results are part of the repository::

    pip download --no-deps etspy==1.3.0
    pip download --no-deps --no-binary :all: totalsegmentator==2.18.0
    pip download --no-deps nilearn==0.14.1
    pip download --no-deps --no-binary :all: twixtools==0.24
    pip install ".[mri]" astra-toolbox
    python scripts/make_samples.py --etspy etspy-1.3.0-py3-none-any.whl \
        --totalsegmentator totalsegmentator-2.18.0.tar.gz \
        --nilearn nilearn-0.14.1-py3-none-any.whl --twixtools twixtools-0.24.tar.gz

Samples whose package is not given stay as they are. (If building an sdist's metadata fails during the download, take
the file from its project page.)

tilt_series.npz
    A measured electron-tomography tilt series (77 views, -76 to 76 degrees), binned.
chest_ct.npz, chest_ct_reference.npz
    A chest CT, projected to 30 noisy views with ASTRA from a grid twice as fine, and the truth.
brain_mri.npz, brain_mri_reference.npz
    The MNI152 brain, scanned with sigpy's coils on a grid twice as fine, and a full scan without noise.
phantom_mri.npz, phantom_mri_reference.npz
    A measured scan of a phantom with two coils, lines left out, and the full scan.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from _foreign_mri import GRE, read_gre, root_sum_of_squares, scan
from _foreign_projection import (
    Scan,
    check_against_linear,
    find_center,
    hounsfield_to_attenuation,
    moment_center,
    read_tilt_series,
    simulate,
    sinogram_arrays,
)
from _public_volumes import block_mean, fit, read_nifti

from napari_d3ip.measurement import KSpace
from napari_d3ip.simulate.sampling import sampling_mask

DATA = Path(__file__).resolve().parents[1] / "src" / "napari_d3ip" / "samples" / "data"
CHEST = "tests/reference_files/aorta_report/example_ct.nii.gz"
CHEST_SLICES = slice(60, 124)
"""Fine slices (1.5 mm, from inferior) of the sample: heart, lungs, great vessels."""
BRAIN = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
BRAIN_SLICES = slice(48, 112)
"""Fine slices (1 mm, from inferior) of the sample: thalami and ventricles to the top of the corpus callosum."""


def make_tilt_series(etspy: Path, binning: int = 2, slices: int = 32) -> dict[str, np.ndarray]:
    """Bin and crop etspy's measured tilt series and find its axis.

    Parameters
    ----------
    etspy : Path
        Wheel or folder.
    binning : int
        Raw pixels per pixel, in both directions; the central 128 binned detector pixels are kept.
    slices : int
        Number of binned slices to keep.

    Returns
    -------
    arrays : dict of ndarray
        The arrays of the scan file.
    """
    images, angles, pixel_nm = read_tilt_series(etspy)
    # The brightest layer (x about 104 to 122) comes near the detector's full scale and its profiles are flattened,
    # so it is not a line integral there; the layers towards the tip are kept.
    start = 124
    images = images[:, :, start : start + slices * binning]
    rows = images.shape[1]
    vacuum = images[:, np.r_[0 : rows // 4, rows - rows // 4 : rows]]
    # The aligner filled the margins it shifted in with one small constant, which is no measurement.
    filled = vacuum <= vacuum.min() + 0.01
    background = float(np.median(vacuum[~filled]))
    sinogram = (images - background).transpose(2, 0, 1)
    crop = (rows - 128 * binning) // 2
    sinogram = block_mean(sinogram[:, :, crop : crop + 128 * binning], (binning, 1, binning))
    rough = moment_center(sinogram, angles, threshold=500.0)
    candidates = np.round(rough * 4) / 4 + np.arange(-8, 9) * 0.25
    center, residuals = find_center(sinogram[::4], angles, candidates)
    print(f"tilt series {sinogram.shape}: background {background:.2f} counts, {filled.mean():.1%} of vacuum filled")
    print(f"  axis: moments {rough:.3f}, residual scan {center:.3f} (residual {residuals.min():.4f})")
    voxel = pixel_nm * binning
    return sinogram_arrays(
        sinogram,
        angles,
        round(center, 2),
        (voxel, voxel, voxel),
        "nanometer",
        {
            "title": "Electron tomography tilt series (measured)",
            "source": "etspy 1.3.0, etspy/tests/test_data/HAADF_Aligned.hspy (NIST)",
            "simulated": False,
            "units": "detector counts above the background; proportional to projected mass-thickness",
            "steps": [
                f"raw columns {start} to {start + slices * binning - 1} along the tilt axis (slice axis z)",
                f"constant background of {background:.2f} counts subtracted: median of the measured vacuum (outer "
                "quarters of the detector, all views, without the aligner's filling); negative values kept",
                f"mean over {binning} x {binning} raw pixels; 128 detector pixels",
                f"rotation axis {center:.2f}: scan of the residual of non-negative SIRT "
                f"(centre of mass of the views: {rough:.2f})",
            ],
            "limits": [
                "aligned by etspy before; the margins it shifted in hold a constant (about minus the background)",
                "layers before the kept ones come near full scale and were left out",
                "the vacuum drifts between about 16 and 34 counts over the views, "
                "the total intensity by -2 to 3 percent",
                "the sense of the tilt is not recorded, so a slice may be mirrored",
            ],
            "background_counts": background,
        },
    )


def load_chest(totalsegmentator: Path, slices: slice = CHEST_SLICES) -> tuple[np.ndarray, float, float]:
    """Fine attenuation volume of the chest CT (3 mm thick slices of 256 x 256 pixels of 1.5 mm).

    Returns
    -------
    fine : ndarray
        (z, 256, 256) attenuation per millimetre.
    fine_mm, slice_mm : float
        Pixel size and distance of slices.
    """
    volume, (z, y, _) = read_nifti(totalsegmentator, CHEST)
    fine = fit(hounsfield_to_attenuation(volume[slices]), (256, 256))
    return block_mean(fine, (2, 1, 1)), y, 2 * z


def make_chest(totalsegmentator: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Simulated scan of the chest CT and its truth."""
    fine, fine_mm, slice_mm = load_chest(totalsegmentator)
    scan = simulate(
        fine, fine_mm, slice_mm, views=30, noise=0.01, seed=0, source=f"totalsegmentator 2.18.0, {CHEST} (Apache-2.0)"
    )
    print(f"chest {scan.sinogram.shape}: differs from ASTRA linear by {check_against_linear(scan):.4f} (relative)")
    data = sinogram_arrays(
        scan.sinogram,
        scan.angles,
        (scan.sinogram.shape[2] - 1) / 2,
        scan.voxel_size,
        "millimeter",
        {"title": "Chest CT, 30 views (simulated)", **scan.provenance},
    )
    return data, reference_arrays(scan, scan.reference)


def make_brain(nilearn: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scan of the brain template and a full scan without noise: 32 slices of 96 x 80 voxels of 2 mm."""
    volume, (z, y, x) = read_nifti(nilearn, BRAIN)
    fine = fit(block_mean(volume[BRAIN_SLICES], (2, 1, 1)), (192, 160))
    mask = sampling_mask((96, 80), 6, "poisson", calibration=16)
    k_space, reference = scan(
        fine,
        mask,
        noise=0.05,
        voxel_size=(2 * z, 2 * y, 2 * x),
        source="brain-mri",
        provenance={
            "title": "Brain MRI, 8 coils, 6-fold accelerated (simulated)",
            "source": f"nilearn 0.14.1, {BRAIN} (MNI152 template)",
            "mask": "Poisson disc (ky, kx), 6-fold, fully sampled square of 16 x 16 in the centre",
        },
    )
    return k_space_arrays(k_space, np.float16), reference_arrays(k_space, reference)


def make_phantom(twixtools: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measured scan of a phantom with lines left out, and the full scan."""
    full = read_gre(twixtools)
    full = full / root_sum_of_squares(full).max()
    mask = sampling_mask(full.shape[2:], 4, "uniform")
    k_space = KSpace(
        full * mask,
        mask=mask,
        voxel_size=(4.0, 1.25, 1.25),
        unit="millimeter",
        source="phantom-mri",
        provenance={
            "title": "Phantom MRI, 2 coils, every fourth line (measured)",
            "source": f"twixtools 0.24, {GRE}",
            "simulated": False,
            "steps": [
                "readout oversampling removed (central half of the field of view)",
                "scaled so that the largest magnitude of the full scan is 1",
                "of 160 lines every fourth and the central 13 kept, the others set to zero",
            ],
        },
    )
    return k_space_arrays(k_space, np.float32), reference_arrays(k_space, root_sum_of_squares(full))


def k_space_arrays(k_space: KSpace, precision: type[np.floating]) -> dict[str, np.ndarray]:
    """The arrays of a k-space sample's file: measured samples (z, coil, sample, real and imaginary part) and mask."""
    samples = k_space.data[:, :, k_space.mask[0]]
    return {
        "samples": np.stack((samples.real, samples.imag), axis=-1).astype(precision),
        "mask": k_space.mask[0],
        "voxel_size": np.asarray(k_space.voxel_size),
        "unit": np.str_(k_space.unit),
        "provenance": np.str_(json.dumps(k_space.provenance)),
    }


def reference_arrays(scan: Scan | KSpace, reference: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a reference's file."""
    return {
        "volume": reference.astype(np.float16),
        "voxel_size": np.asarray(scan.voxel_size),
        "unit": np.str_("millimeter"),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etspy", type=Path, help="etspy wheel or folder")
    parser.add_argument("--totalsegmentator", type=Path, help="totalsegmentator sdist or folder")
    parser.add_argument("--nilearn", type=Path, help="nilearn wheel or folder")
    parser.add_argument("--twixtools", type=Path, help="twixtools sdist or folder")
    parser.add_argument("-o", "--output", type=Path, default=DATA, help="folder to write to")
    parser.add_argument("--binning", type=int, default=2, choices=(1, 2), help="binning of the tilt series")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    files = {}
    if options.etspy:
        files["tilt_series.npz"] = make_tilt_series(options.etspy, options.binning)
    if options.totalsegmentator:
        files["chest_ct.npz"], files["chest_ct_reference.npz"] = make_chest(options.totalsegmentator)
    if options.nilearn:
        files["brain_mri.npz"], files["brain_mri_reference.npz"] = make_brain(options.nilearn)
    if options.twixtools:
        files["phantom_mri.npz"], files["phantom_mri_reference.npz"] = make_phantom(options.twixtools)

    listing = options.output / "manifest.json"
    manifest = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    for name, arrays in files.items():
        path = options.output / name
        np.savez_compressed(path, **arrays)
        content = path.read_bytes()
        main_array = next(arrays[key] for key in ("data", "samples", "volume") if key in arrays)
        manifest[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "shape": list(main_array.shape),
            "dtype": str(main_array.dtype),
        }
        print(f"  {name}: {main_array.shape}, {len(content) / 1e6:.2f} MB")
    listing.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
