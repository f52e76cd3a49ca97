"""The first inputs of the fuzzing of scans and volumes, which are the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FORMATS = (
    *("tiff", "tiff-folder", "dxchange", "nxtomo", "hyperspy", "hdf5", "npz", "npy", "mat", "mat73", "fastmri"),
    *("ismrmrd", "twix", "bart", "angles", "nifti", "zarr"),
)
COUNT = 12


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_changed_files_end_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.fuzz", ",".join(FORMATS), str(COUNT), "--out", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    found = "".join(path.read_text() for path in sorted(tmp_path.glob("*.jsonl")))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{found}"
    assert len(found.splitlines()) == COUNT * len(FORMATS)
