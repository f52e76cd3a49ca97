"""Make the bundled samples of `napari_d3ip.samples` from public packages.

Run once, by a maintainer; the results are part of the repository::

    pip download --no-deps etspy==1.3.0
    pip download --no-deps --no-binary :all: totalsegmentator==2.18.0
    pip install numpy scipy h5py nibabel astra-toolbox
    python scripts/make_samples.py --etspy etspy-1.3.0-py3-none-any.whl \
        --totalsegmentator totalsegmentator-2.18.0.tar.gz

(If building the sdist's metadata fails during the download, take the file from its project page.)

tilt_series.npz
    A measured electron-tomography tilt series (77 views, -76 to 76 degrees), binned.
chest_ct.npz, chest_ct_reference.npz
    A chest CT, projected to 30 noisy views with ASTRA from a grid twice as fine, and the truth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from _foreign_projection import (
    Scan,
    block_mean,
    check_against_linear,
    find_center,
    fit_square,
    hounsfield_to_attenuation,
    moment_center,
    read_nifti,
    read_tilt_series,
    simulate,
    sinogram_arrays,
)

DATA = Path(__file__).resolve().parents[1] / "src" / "napari_d3ip" / "samples" / "data"
CHEST = "tests/reference_files/aorta_report/example_ct.nii.gz"
CHEST_SLICES = slice(60, 124)
"""Fine slices (1.5 mm, from inferior) of the sample: heart, lungs, great vessels."""


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
    fine = fit_square(hounsfield_to_attenuation(volume[slices]), 256)
    return block_mean(fine, (2, 1, 1)), y, 2 * z


def scan_arrays(scan: Scan, title: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays of a simulated scan's file and of its reference's file."""
    data = sinogram_arrays(
        scan.sinogram,
        scan.angles,
        (scan.sinogram.shape[2] - 1) / 2,
        scan.voxel_size,
        "millimeter",
        {"title": title, **scan.provenance},
    )
    truth = {
        "volume": scan.reference.astype(np.float16),
        "voxel_size": np.asarray(scan.voxel_size),
        "unit": np.str_("millimeter"),
    }
    return data, truth


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etspy", type=Path, required=True, help="etspy wheel or folder")
    parser.add_argument("--totalsegmentator", type=Path, required=True, help="totalsegmentator sdist or folder")
    parser.add_argument("-o", "--output", type=Path, default=DATA, help="folder to write to")
    parser.add_argument("--binning", type=int, default=2, choices=(1, 2), help="binning of the tilt series")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    files = {"tilt_series.npz": make_tilt_series(options.etspy, options.binning)}
    fine, fine_mm, slice_mm = load_chest(options.totalsegmentator)
    scan = simulate(
        fine, fine_mm, slice_mm, views=30, noise=0.01, seed=0, source=f"totalsegmentator 2.18.0, {CHEST} (Apache-2.0)"
    )
    print(f"chest {scan.sinogram.shape}: differs from ASTRA linear by {check_against_linear(scan):.4f} (relative)")
    files["chest_ct.npz"], files["chest_ct_reference.npz"] = scan_arrays(scan, "Chest CT, 30 views (simulated)")

    manifest = {}
    for name, arrays in files.items():
        path = options.output / name
        np.savez_compressed(path, **arrays)
        content = path.read_bytes()
        main_array = arrays.get("data", arrays.get("volume"))
        manifest[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "shape": list(main_array.shape),
            "dtype": str(main_array.dtype),
        }
        print(f"  {name}: {main_array.shape}, {len(content) / 1e6:.2f} MB")
    (options.output / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
