"""What the documentation promises: examples run, all methods are explained, links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from napari_d3ip.io import save_kspace
from napari_d3ip.samples import load_sample
from napari_d3ip.settings import METHODS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
ARGUMENTS = {
    "early_stop": ["2"],
    "how_many_views": ["2", "6"],
    "mri_from_file": ["scan.npz", "1"],
    "sparse_view_ct": ["2"],
}
MADE = {
    "early_stop": ["chest_dds.tif", "curves.png"],
    "how_many_views": ["how_many_views.png"],
    "mri_from_file": ["brain.nii.gz", "brain_phase.npy", "brain_coil_maps.npy", "brain_residual.npy"],
    "sparse_view_ct": ["chest_fbp.tif", "chest_tv.tif", "chest_d3ip.tif"],
}


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs as a script and leaves the files that it says."""
    monkeypatch.chdir(tmp_path)
    save_kspace("scan.npz", load_sample("brain-mri").select(slices=slice(0, 2)))
    monkeypatch.setattr(sys, "argv", [example, *ARGUMENTS[example]])
    runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
    for name in MADE[example]:
        assert Path(name).exists()


@pytest.mark.slow
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after the other, on fewer slices; it is kept without outputs."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
    sources = ["".join(cell["source"]) for cell in code]
    assert "slice(12, 20)" in sources[0]
    names: dict[str, Any] = {}
    for source in sources:
        exec(source.replace("slice(12, 20)", "slice(15, 17)"), names)
    plt.close("all")
    assert names["results"]["d3ip"].metrics["psnr"] > names["results"]["fbp"].metrics["psnr"]
    assert Path("chest_d3ip.tif").exists()


def test_methods_are_explained() -> None:
    """The table of methods has them all."""
    rows = re.findall(r"^\| (`.+?`) \|.*\|$", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert sorted(named) == sorted(METHODS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Those within the repository; the pages in docs are checked as the site is built."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
