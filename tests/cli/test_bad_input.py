"""What cannot be reconstructed, from the command line: exit 2, one sentence, no output, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest

from napari_d3ip.io import save_sinogram
from napari_d3ip.measurement import Sinogram

DATA = 0.5 + np.random.default_rng(0).random((3, 5, 8)).astype(np.float32)
ANGLES = np.arange(5.0) * 36.0
KSPACE = (np.random.default_rng(1).random((2, 3, 6, 4)) + 1j).astype(np.complex64)
ISMRMRD_HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    {0}{1}
    <encodingLimits/>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>"""
SPACE = "<{0}Space><matrixSize><x>4</x><y>6</y><z>1</z></matrixSize>" + (
    "<fieldOfView_mm><x>4</x><y>6</y><z>1</z></fieldOfView_mm></{0}Space>"
)

Make = Callable[[Path], tuple[Path, list[str]]]


def array(values: np.ndarray, *options: str, **others: Any) -> Make:
    """A scan as an npz of a sinogram, or as what ``others`` make of it."""

    def make(folder: Path) -> tuple[Path, list[str]]:
        np.savez(folder / "scan.npz", **{"data": values, "angles": ANGLES, **others})
        return folder / "scan.npz", ["--set", "axes=zad", *options]

    return make


def counts(lowest: float) -> Make:
    """Data Exchange with one pixel of a transmission that has no logarithm."""

    def make(folder: Path) -> tuple[Path, list[str]]:
        values = np.full((5, 3, 8), 500.0, np.float32)
        values[2, 1, 4] = lowest
        with h5py.File(folder / "scan.h5", "w") as file:
            file["exchange/data"], file["exchange/data_white"] = values, np.full((2, 3, 8), 1000.0, np.float32)
            file["exchange/data_dark"], file["exchange/theta"] = np.full((2, 3, 8), 10.0, np.float32), ANGLES
        return folder / "scan.h5", []

    return make


def truncated(folder: Path) -> tuple[Path, list[str]]:
    save_sinogram(folder / "scan.h5", Sinogram(DATA, ANGLES))
    content = (folder / "scan.h5").read_bytes()
    (folder / "scan.h5").write_bytes(content[: len(content) // 2])
    return folder / "scan.h5", []


def with_darks(folder: Path) -> tuple[Path, list[str]]:
    np.save(folder / "scan.npy", DATA)
    np.save(folder / "darks.npy", 0 * DATA[:, 0])
    np.savetxt(folder / "scan.angles.txt", ANGLES)
    told = ("axes=zad", "values=transmission", f"darks={folder / 'darks.npy'}", f"angles={folder / 'scan.angles.txt'}")
    return folder / "scan.npy", [part for pair in told for part in ("--set", pair)]


def of_no_layout(folder: Path) -> tuple[Path, list[str]]:
    with h5py.File(folder / "scan.h5", "w") as file:
        file["temperatures"] = np.arange(10.0)
    return folder / "scan.h5", []


def changed(values: np.ndarray, value: Any, *index: Any) -> np.ndarray:
    values = values.copy()
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(truncated, "scan.h5", id="truncated file"),
        pytest.param(array(changed(DATA, np.nan, 1, 2, 3)), "1 of 120 values in scan.npz are NaN", id="NaN"),
        pytest.param(array(changed(DATA, np.inf, 1, 2, 3)), "1 of 120 values in scan.npz are NaN or inf", id="Inf"),
        pytest.param(array(DATA, angles=ANGLES[:4]), "4 values for 5 projections", id="angles"),
        pytest.param(array(DATA[:0]), "empty", id="empty dataset"),
        pytest.param(array(0 * DATA), "all projections in scan.npz are zero", id="all-zero projections"),
        pytest.param(counts(10), "1 of 120 transmission values", id="zero transmission"),
        pytest.param(counts(2), "1 of 120 transmission values", id="negative transmission"),
        pytest.param(of_no_layout, "scan.h5", id="unknown layout"),
        pytest.param(array(DATA * 1j), "must be real", id="complex sinogram"),
        pytest.param(array(DATA[0]), "axes: zad does not fit scan.npz of shape (5, 8)", id="2D image"),
        pytest.param(
            array(DATA, "--set", "values=line_integrals", "--set", "clip_transmission=0.1"),
            "clip_transmission: scan.npz is a scan of line integrals, to which this option does not apply",
            id="clip of line integrals",
        ),
        pytest.param(
            with_darks,
            "darks: scan.npy is a scan of transmissions, to which this option does not apply",
            id="unused darks",
        ),
    ],
)
def test_sinograms(tmp_path: Path, refused: Any, make: Make, expected: str) -> None:
    scan, options = make(tmp_path)
    assert expected in refused(scan, "--method", "fbp", *options)


def test_no_permission(tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, options = array(DATA)(tmp_path)
    refusal = PermissionError(13, "Permission denied")
    monkeypatch.setattr("napari_d3ip.io.atomic.tempfile.mkdtemp", lambda **_: (_ for _ in ()).throw(refusal))
    assert "volume.tif cannot be written (Permission denied)" in refused(scan, *options)


def kspace(values: np.ndarray = KSPACE, **others: np.ndarray) -> Make:
    """A scan with what belongs to it in files beside it."""

    def make(folder: Path) -> tuple[Path, list[str]]:
        np.savez(folder / "scan.npz", kspace=values)
        options = ["--set", "axes=zcyx"]
        for name, companion in others.items():
            np.save(folder / f"{name}.npy", companion)
            options += ["--set", f"{name}={folder / name}.npy"]
        return folder / "scan.npz", options

    return make


def interrupted(folder: Path) -> tuple[Path, list[str]]:
    """ISMRMRD whose table was made longer, but not filled any more."""
    path = folder / "scan.h5"
    dataset = ismrmrd.Dataset(str(path), "dataset")
    dataset.write_xml_header(ISMRMRD_HEADER.format(SPACE.format("encoded"), SPACE.format("recon")).encode())
    for line in range(6):
        acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(KSPACE[0, :, line]))
        acquisition.idx.kspace_encode_step_1, acquisition.center_sample = line, 2
        dataset.append_acquisition(acquisition)
    dataset.close()
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize(9, axis=0)
    return path, []


def leaving_the_unit_cell(folder: Path) -> tuple[Path, list[str]]:
    positions = np.zeros((6, 4, 2), np.float32)
    positions[2, 1] = 0, 5
    scan, options = kspace(trajectory=positions)(folder)
    return scan, [*options, "--set", "image_shape=8,8"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(kspace(changed(KSPACE, 0, slice(None), 1)), "coil 1 of 3", id="missing coil"),
        pytest.param(kspace(mask=np.ones((6, 5), bool)), "(6, 5)", id="mask of the wrong shape"),
        pytest.param(
            kspace(coil_maps=np.ones((2, 3, 8, 8), np.complex64)), "(2, 3, 8, 8)", id="maps of another matrix"
        ),
        pytest.param(kspace(changed(KSPACE, 0, 1)), "slice 1 of 2", id="zero slice"),
        pytest.param(kspace(np.abs(KSPACE)), "must be complex", id="real k-space"),
        pytest.param(interrupted, "is truncated", id="interrupted ISMRMRD"),
        pytest.param(leaving_the_unit_cell, "outside the unit cell", id="trajectory"),
    ],
)
def test_kspace(tmp_path: Path, refused: Any, make: Make, expected: str) -> None:
    scan, options = make(tmp_path)
    assert expected in refused(scan, "--method", "sense", *options)
