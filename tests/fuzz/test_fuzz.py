"""The first inputs of the fuzzing, which are the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

READERS = "tiff,tiff-folder,dxchange,nxtomo,hyperspy,hdf5,npz,npy,mat,mat73,fastmri,ismrmrd,twix,bart"
OTHERS = "angles,nifti,zarr,prior,adapter,checkpoint,result,settings"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("names", "count"), [(READERS, 15), (OTHERS, 5)], ids=["readers", "others"])
def test_changed_files_end_in_a_sentence(names: str, count: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.fuzz", names, str(count), "--out", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    found = "".join(path.read_text() for path in sorted(tmp_path.glob("*.jsonl")))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{found}"
    assert len(found.splitlines()) == count * len(names.split(","))
