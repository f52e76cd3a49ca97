"""Position and orientation in the patient: from scanners and NIfTI files to volumes saved as NIfTI."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import twixtools
from tests.io.ismrmrd_files import Writer
from tests.reading import read_kspace, read_stack
from twixtools.geometry import Geometry

from napari_d3ip.io import ReadOptions, load_volume, read, save_kspace, save_stack, save_volume
from napari_d3ip.io.position import Belongings, Position
from napari_d3ip.measurement import PATIENT, Measurement
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.settings import Settings

EXAMPLE = Path(__file__).parent / "data" / "gre.dat"
# Orthogonal unit vectors, none along an axis: readout, phase encoding, slice.
READ, PHASE, SLICE = (np.array(vector) / 3 for vector in ((2, -1, 2), (2, 2, -1), (-1, 2, 2)))
DIRECTIONS = (READ, PHASE, SLICE)
CENTRE = np.array([10.0, -20.0, 30.0])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.h5"


def saved(folder: Path, scan: Measurement) -> Any:
    """A volume of the scan as nibabel reads it."""
    volume = np.arange(np.prod(scan.volume_shape)).reshape(scan.volume_shape)
    patient = Position.in_patient(scan)
    belongings = Belongings(position=Position.from_measurement(scan), patient=patient)
    save_volume(folder / "v.nii.gz", volume, voxel_size=scan.voxel_size, unit=scan.unit, belongings=belongings)
    image = nibabel.Nifti1Image.from_filename(folder / "v.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume)
    assert load_volume(folder / "v.nii.gz").belongings.patient == patient
    return image


def codes(image: Any) -> tuple[int, int]:
    """Codes of sform and qform."""
    return int(image.header["sform_code"]), int(image.header["qform_code"])


def write_slices(path, coil_scan, **header):
    """Three slices in the order 2, 0, 1, 6 mm apart; pixels of 5 and 10 mm."""
    with Writer(path, **header) as writer:
        for number, place in enumerate((2, 0, 1)):
            centre = CENTRE + 6 * place * SLICE
            writer.add_slice(coil_scan.data[place], slice=number, position=centre, directions=DIRECTIONS)


@pytest.mark.parametrize(
    ("vendor", "point"),
    [
        # Slice 2 has its centre at (6, -12, 38) LPS. Row 8 is 2 · 5 mm further along (2, 2, -1)/3, column 4 is 10 mm
        # back along (2, -1, 2)/3: (6, -12, 38) + (0, 10, -10) = (6, -2, 28) LPS.
        ("GE MEDICAL SYSTEMS", (-6, 2, 28)),
        # The other way in the plane: (6, -12, 38) - (0, 10, -10).
        ("SIEMENS", (-6, 22, 48)),
    ],
)
def test_a_point_of_oblique_slices(path, tmp_path, coil_scan, vendor, point):
    write_slices(path, coil_scan, vendor=vendor)
    image = saved(tmp_path, read(path))
    np.testing.assert_allclose((image.affine @ [4, 8, 2, 1])[:3], point, atol=1e-4)
    np.testing.assert_allclose(image.affine[:3, 2], [2, -4, 4], atol=1e-5)
    assert codes(image) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-4)
    np.testing.assert_allclose(image.header.get_zooms(), (10, 5, 6), rtol=1e-6)


def test_parts_lie_where_they_do_in_the_whole(path, tmp_path, coil_scan):
    write_slices(path, coil_scan)
    whole = read_kspace(path)
    expected = saved(tmp_path, whole).affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    save_kspace(tmp_path / "own.npz", whole)
    parts = (
        whole.select(slices=slice(1, 3)),
        read(path, slices="1:3"),
        read(tmp_path / "own.npz").select(slices=slice(1, 3)),
        read(tmp_path / "own.npz", slices="1:3"),
    )
    for part in parts:
        np.testing.assert_allclose(saved(tmp_path, part).affine, expected, atol=1e-4)


def test_results_are_saved_there(path, tmp_path, coil_scan):
    write_slices(path, coil_scan)
    scan = read(path)
    Reconstruction(np.ones(scan.volume_shape, np.float32), Settings(), [], {}, scan).save(tmp_path / "r.nii.gz")
    image = nibabel.Nifti1Image.from_filename(tmp_path / "r.nii.gz")
    np.testing.assert_array_equal(image.affine, saved(tmp_path, scan).affine)
    assert codes(image) == (1, 1)


def test_a_volume_encoded_in_three_dimensions(path, tmp_path, coil_scan):
    """Slices along z, and along the readout where partitions are missing; twofold oversampled."""
    rng = np.random.default_rng(0)
    for is_complete in (True, False):
        path.unlink(missing_ok=True)
        with Writer(path, nz=6, fz=12, nx=20, fx=200, rx=10, rfx=100) as writer:
            for kz in range(6):
                for ky in range(12):
                    if is_complete or (kz + ky) % 2 == 0:
                        writer.add(rng.standard_normal((2, 20)), ky=ky, kz=kz, position=CENTRE, directions=DIRECTIONS)
        scan = read(path)
        along = scan.provenance["read"]["slices_along"]
        letters = "zyx" if is_complete else "xzy"
        assert along == letters[0]
        steps = {"x": 10 * READ, "y": 5 * PHASE, "z": 2 * SLICE}
        affine = saved(tmp_path, scan).affine
        middle = [count // 2 for count in scan.volume_shape][::-1]
        np.testing.assert_allclose((affine @ [*middle, 1])[:3], CENTRE * [-1, -1, 1], atol=1e-4)
        for column, letter in enumerate(reversed(letters)):
            np.testing.assert_allclose(affine[:3, column], steps[letter] * [-1, -1, 1], atol=1e-4)


def test_siemens_raw_data(tmp_path):
    """The program's own geometry has directions of phase encoding and readout that run as our images do."""
    scan = read(EXAMPLE)
    measurement = twixtools.read_twix(str(EXAMPLE), verbose=False)[-1]
    phase, read_out, _ = Geometry(measurement, 0).prs_to_pcs().T
    image = saved(tmp_path, scan)
    to_ras = np.array([-1, -1, 1])
    np.testing.assert_allclose(image.affine[:3, 0] / 1.25, read_out * to_ras, atol=1e-5)
    np.testing.assert_allclose(image.affine[:3, 1] / 1.25, phase * to_ras, atol=1e-5)
    place = measurement["hdr"]["MeasYaps"]["sSliceArray"]["asSlice"][0]["sPosition"]
    expected = np.array([place["dSag"], place["dCor"], place["dTra"]]) * to_ras
    np.testing.assert_allclose((image.affine @ [80, 80, 0, 1])[:3], expected, atol=1e-4)
    assert codes(image) == (1, 1)


@pytest.mark.parametrize("case", ["no directions", "uneven", "turned", "not finite", "own unit"])
def test_what_is_not_known_is_not_claimed(path, tmp_path, coil_scan, case):
    centres = CENTRE + 6 * np.array([0, 1, 3 if case == "uneven" else 2])[:, None] * SLICE
    if case == "not finite":
        centres[1, 0] = np.nan
    with Writer(path) as writer:
        for number, data in enumerate(coil_scan.data):
            turned = (PHASE, READ, SLICE) if case == "turned" and number == 1 else DIRECTIONS
            stated = None if case == "no directions" else turned
            writer.add_slice(data, slice=number, position=centres[number], directions=stated)
    scan = read(path, ReadOptions(unit="pixel" if case == "own unit" else None))
    assert PATIENT not in scan.provenance
    assert codes(saved(tmp_path, scan)) == (0, 0)


def test_positions_of_layers_are_no_claim_about_the_scanner(tmp_path):
    position = Position((10.0, 20.0, 30.0))
    save_volume(tmp_path / "v.nii", np.ones((2, 3, 4)), voxel_size=1.0, belongings=Belongings(position=position))
    image = nibabel.Nifti1Image.from_filename(tmp_path / "v.nii")
    assert codes(image) == (2, 0)
    np.testing.assert_array_equal(image.affine[:3, 3], [30, 20, 10])


AFFINE = np.column_stack((3 * READ, 2 * PHASE, 6 * SLICE, CENTRE))


@pytest.mark.parametrize(("sform", "qform", "expected"), [(1, 1, (1, 1)), (0, 1, (1, 1)), (4, 1, (4, 0))])
@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_stacks_read_from_nifti(tmp_path, sform, qform, expected, unit):
    affine = np.vstack((AFFINE, [0, 0, 0, 1]))
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((4, 5, 6), np.float32), None)
    image.header.set_zooms((3, 2, 6))
    image.header.set_sform(affine, sform)
    image.header.set_qform(affine, qform)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "in.nii")
    stack = read_stack(tmp_path / "in.nii", kind="deconvolution", psf=2)
    save_stack(tmp_path / "own.npz", stack)
    options: dict[str, Any] = {"kind": "deconvolution", "psf": 2, "slices": "2:5"}
    for part in (
        stack.select(slices=slice(2, 5)),
        read(tmp_path / "in.nii", **options),
        read(tmp_path / "own.npz", **options),
    ):
        out = saved(tmp_path, part)
        assert codes(out) == expected
        start = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1.0]])
        start[:3] *= {"mm": 1, "micron": 1e-3}[unit]
        np.testing.assert_allclose(out.affine, start, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("affine", [None, np.diag([3, 2, 9, 1]), np.diag([3, 0, 6, 1]), np.diag([np.nan, 2, 6, 1])])
def test_nifti_without_a_position(tmp_path, affine):
    """None stated, or one that contradicts the voxel size, is flat or no number."""
    image = nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), None)
    image.header.set_zooms((3, 2, 6))
    image.header.set_sform(np.eye(4) if affine is None else affine, 0 if affine is None else 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "in.nii")
    stack = read_stack(tmp_path / "in.nii", kind="deconvolution", psf=2)
    assert PATIENT not in stack.provenance
    assert codes(saved(tmp_path, stack)) == (0, 0)


@pytest.mark.parametrize(
    "note", [3, "left", {"place": "here"}, {"place": [1, 2]}, {"orientation": [[1]]}, {"place": [np.nan] * 3}]
)
def test_notes_of_that_name_by_others(tmp_path, note):
    scan = replace(read(EXAMPLE), provenance={PATIENT: note})
    assert Position.in_patient(scan) is None
    assert codes(saved(tmp_path, scan.select(slices=slice(0, 1)))) == (0, 0)
