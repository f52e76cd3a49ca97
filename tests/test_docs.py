"""What the documentation promises: examples run, all methods are explained, links lead somewhere."""

from __future__ import annotations

import ast
import csv
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from napari_d3ip.io import save_kspace
from napari_d3ip.measurement import KSpace
from napari_d3ip.reconstruction.resolve import TASKS
from napari_d3ip.samples import load_sample
from napari_d3ip.settings import METHODS, Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_d3ip"
RESEARCH = ROOT / "docs" / "research"
RECORDS = sorted(path.stem for path in RESEARCH.glob("*.md") if path.stem != "index")
EXAMPLES = ROOT / "docs" / "examples"
ARGUMENTS = {
    "disks_with_holes": [],
    "early_stop": ["2"],
    "how_many_views": ["2", "6"],
    "mri_from_file": ["scan.npz", "1"],
    "sparse_view_ct": ["2"],
}
MADE = {
    "disks_with_holes": ["disks.png"],
    "early_stop": ["chest_dds.tif", "curves.png"],
    "how_many_views": ["how_many_views.png"],
    "mri_from_file": ["brain.nii.gz", "brain_phase.npy", "brain_coil_maps.npy", "brain_residual.npy"],
    "sparse_view_ct": ["chest_fbp.tif", "chest_tv.tif", "chest_d3ip.tif"],
}


@pytest.fixture
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an example leaves steps open, take few: it must run, not look well."""
    for defaults in TASKS.values():
        for name, count in {"steps": 4, "adapt_steps": 2, "start_iterations": 10}.items():
            monkeypatch.setitem(defaults, name, count)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_steps")
@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs as a script and leaves the files that it says."""
    monkeypatch.chdir(tmp_path)
    scan = load_sample("brain-mri").select(slices=slice(0, 2))
    assert isinstance(scan, KSpace)
    save_kspace("scan.npz", scan)
    monkeypatch.setattr(sys, "argv", [example, *ARGUMENTS[example]])
    runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
    for name in MADE[example]:
        assert Path(name).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_few_steps")
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
    """The page has the table that is made of the registry, in which every method has a sentence of its own."""
    assert "<!-- generated: methods -->" in (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    summaries = [method.summary for method in METHODS.values()]
    assert all(re.fullmatch(r"[A-Z\d].+\.", summary) for summary in summaries)
    assert len(set(summaries)) == len(summaries)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Those within the repository; the pages in docs are checked as the site is built."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of the Markdown tables in a text, without headers' lines."""
    rows = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows if set(row) - set("-|")]


def test_records_that_defaults_name_are_there() -> None:
    """A default in the code points to the record of the decision."""
    named = {
        path
        for file in (ROOT / "src").rglob("*.py")
        for path in re.findall(r"docs/research/[\w-]+\.md", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 12
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_table_of_changes_names_what_exists() -> None:
    """Every path in CONTRIBUTING's table is there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| change | where |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    assert len(rows) >= 17
    named = {change: re.findall(r"`([\w/]+(?:\.py|/))`", where) for change, where in rows}
    assert [change for change, paths in named.items() if not paths] == []
    assert [path for paths in named.values() for path in paths if not (PACKAGE / path).exists()] == []


def rooms() -> dict[str, list[Path]]:
    """Return the modules of each room: of a directory of the package, or a module at its top."""
    return {
        path.stem: sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for path in PACKAGE.iterdir()
        if path.name not in ("__init__.py", "__pycache__") and (path.is_dir() or path.suffix == ".py")
    }


def imported(module: Path) -> Iterator[str]:
    """Yield the rooms that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [node.module or ""]
            if node.module == "napari_d3ip":
                names = [f"napari_d3ip.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("napari_d3ip."):
                yield name.split(".")[1]


def below(arrows: set[tuple[str, str]], room: str) -> set[str]:
    """Return what can be reached from a room along arrows."""
    found: set[str] = set()
    waiting = [room]
    while waiting:
        start = waiting.pop()
        new = {end for begin, end in arrows if begin == start} - found
        found |= new
        waiting += new
    return found


def test_picture_of_the_rooms() -> None:
    """It has every room, an arrow only where one imports the other, and a way for every import."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.partition("flowchart TD\n")[2].partition("```")[0]
    arrows = set(re.findall(r"^ *(\w+)(?:\[.+?\])? --> (\w+)", picture, re.MULTILINE))
    assert {room for arrow in arrows for room in arrow} == set(rooms())
    imports = {
        (room, target)
        for room, modules in rooms().items()
        for module in modules
        for target in imported(module)
        if target != room and target in rooms()
    }
    assert arrows - imports == set()
    assert {(start, end) for start, end in imports if end not in below(arrows, start)} == set()
    assert [room for room in rooms() if room in below(arrows, room)] == []


def test_table_of_the_rooms() -> None:
    """It has a row for every room, names the packages within, and the modules that the page names exist."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w[\w/]*(?:\.py|/))`", page))
    rows = {row[0].strip("`/") for row in table_rows(page)[1:]}
    assert rows == {path.name for path in PACKAGE.iterdir() if path.stem in rooms()}
    packages = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("*/__init__.py")} - {"./"}
    data = {"samples/data/", "prior/weights/"}
    assert packages - named == set()
    assert data <= named
    assert [path for path in sorted(named) if not (PACKAGE / path).exists()] == []


@pytest.mark.parametrize("record", RECORDS)
def test_decision_record(record: str) -> None:
    """It is short, begins as all do, has a command whose settings exist, and links all of its numbers."""
    text = (RESEARCH / f"{record}.md").read_text(encoding="utf-8")
    assert re.match(
        r"---\nstatus: (kept|rejected|open)\ndate: \d{4}-\d\d-\d\d\nrevision: [0-9a-f]{7}(, [0-9a-f]{7})*\n---\n"
        r"# .+\n\n\*\*Question\.\*\* (.+\n)+\n\*\*Decision\.\*\* ",
        text,
    )
    assert len(text.splitlines()) <= 35
    assert len(table_rows(text)) <= 9
    commands = "\n".join(re.findall(r"```sh\n(.+?)```", text, re.DOTALL)).replace("\\\n", " ")
    assert commands or "Command: none" in text
    for command in commands.splitlines():
        words = shlex.split(command)
        for option, value in pairwise(words):
            if option in ("--set", "--sweep"):
                field, _, values = value.partition("=")
                assert field in Settings.model_fields
                for given in values.split(","):
                    Settings.model_validate({field: given})
            if option == "--methods":
                assert set(value.split(",")) <= set(METHODS)
    assert re.findall(r"\(data/[\w-]+\.csv\)", text)


def test_numbers_of_the_records() -> None:
    """Every file of numbers is linked by one record, and every line of it has a number with what it is of."""
    text = "".join((RESEARCH / f"{record}.md").read_text(encoding="utf-8") for record in RECORDS)
    files = sorted((RESEARCH / "data").glob("*.csv"))
    assert sorted(re.findall(r"\(data/([\w-]+\.csv)\)", text)) == [path.name for path in files]
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["part", "scan", "setting", "quantity", "value", "note"]
        for row in rows:
            assert row["quantity"]
            assert row["scan"] or row["setting"]
            float(row["value"])


def test_every_default_has_a_record() -> None:
    """The table of defaults has all fields of all tasks, and no others."""
    text = (RESEARCH / "index.md").read_text(encoding="utf-8")
    header, *rows = table_rows(text.partition("become, by task")[2].partition("Other numbers")[0])
    assert header[1:] == list(TASKS)
    linked = {
        task: {row[0].strip("`") for row in rows if row[column].startswith("[")}
        for column, task in enumerate(TASKS, start=1)
    }
    assert linked == {task: set(fields) for task, fields in TASKS.items()}


def test_glossary_names_settings() -> None:
    """What it sets in code is a setting, one of its values, or a figure of a result."""
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = {term.partition("=")[0] for row in table_rows(page) for term in re.findall(r"`(\w+(?:=\w+)?)`", row[0])}
    assert terms - set(Settings.model_fields) == {"t", "lora_shift"}
