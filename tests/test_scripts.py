"""The scripts that watch over a change of the code: volumes stay the same, and what is hard to read is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from napari_d3ip.settings import METHODS

SCRIPTS = Path(__file__).parents[1] / "scripts"
RUNS = ("parallel fbp", "mri sense")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module


@pytest.fixture
def recorder(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("record_volumes")


@pytest.fixture
def recorded(recorder: ModuleType, tmp_path: Path) -> Path:
    """A recording of two runs."""
    file = tmp_path / "volumes.json"
    assert recorder.main(["record", str(file), "--only", *RUNS]) == 0
    return file


def test_recording_names_arrays_and_equals_itself(
    recorder: ModuleType, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = json.loads(recorded.read_text())["runs"]
    assert list(kept) == list(RUNS)
    assert kept["parallel fbp"]["volume"]["shape"] == [4, 16, 16]
    assert {"volume", "phase", "coil maps", "residual", "loss"} <= kept["mri sense"].keys()
    assert recorder.main(["compare", str(recorded)]) == 0
    assert "2 equal, 0 differs, 0 missing" in capsys.readouterr().out


def test_comparison_finds_and_measures_a_change(
    recorder: ModuleType,
    recorded: Path,
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, scan = script("_recorded_runs"), script("_tiny_scans").scan
    monkeypatch.setattr(runs, "scan", lambda name: replace(scan(name), data=1.25 * scan(name).data))
    assert recorder.main(["compare", str(recorded), "--only", "parallel fbp"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "| parallel fbp | differs | volume | 2.50e-01 |" in lines
    assert not any("| parallel fbp | differs | phase |" in line for line in lines)
    assert lines[-1] == "0 equal, 1 differs, 0 missing, 0 dropped."


def test_what_cannot_be_run_any_more_is_missing_unless_it_was_dropped(
    recorder: ModuleType,
    recorded: Path,
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(script("_recorded_runs")._RUNS, "mri sense", ("mri", {"no_such_setting": 1}))
    assert recorder.main(["compare", str(recorded)]) == 1
    assert "| mri sense | missing | no_such_setting: " in capsys.readouterr().out
    assert recorder.main(["compare", str(recorded), "--dropped", "mri sense"]) == 0
    assert "1 equal, 0 differs, 0 missing, 1 dropped" in capsys.readouterr().out


def test_recording_refuses_names_that_it_does_not_know(recorder: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        recorder.main(["record", str(tmp_path / "volumes.json"), "--only", "no such run"])


def test_every_method_and_kind_of_measurement_is_recorded(script: Callable[[str], ModuleType]) -> None:
    runs = script("_recorded_runs")
    of_tables = [*runs._RUNS.values(), *runs._PRESETS.values()]
    assert {fields.get("method", "d3ip") for _, fields in of_tables} == set(METHODS)
    assert {name for name, _ in of_tables} == set(script("_tiny_scans").SCANS)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def found(script: Callable[[str], ModuleType], tmp_path: Path) -> dict[str, Any]:
    """Figures of a made-up package."""
    many = ", ".join("abcdefgh")
    branches = "".join(f"    if value == {number}:\n        return {number}\n" for number in range(11))
    docstring = '    """Say.\n' + "    what\n" * 90 + '    """\n'
    wide = f"def wide({many}):\n    return a\n\n\n"
    package = written(
        tmp_path / "madeup",
        {
            "__init__.py": "from madeup.top import long\n",
            "top.py": "def long(value):\n" + docstring + "    value = 0\n" * 60,
            "lengthy.py": "x = 1\n" * 401,
            "ring/__init__.py": "",
            "ring/first.py": "def late():\n    from madeup.ring import second\n    return second\n",
            "ring/second.py": "import madeup.ring.first\n",
            "east/__init__.py": "",
            "east/up.py": "def late():\n    import madeup.west.up\n",
            "east/down.py": "import madeup\n",
            "west/__init__.py": "",
            "west/up.py": wide + f"class Box:\n    def full(self, {many[:-3]}):\n        return a\n",
            "west/down.py": f"import madeup.east.down\n\n\ndef branching(value):\n{branches}    return 11\n",
        },
    )
    tests = written(tmp_path / "tests", {"test_top.py": "x = 1\n", "west/test_up.py": "x = 1\ny = 2\n"})
    return script("count_code").count(package, tests)


def test_files_and_lines_are_counted_by_room(found: dict[str, Any]) -> None:
    assert found["tests"] == {"(top)": {"files": 1, "lines": 1}, "west": {"files": 1, "lines": 2}}
    assert found["src"]["ring"] == {"files": 3, "lines": 4}
    assert found["top_modules"] == ["__init__.py", "lengthy.py", "top.py"]
    assert found["long_files"] == {"lengthy.py": 401}


def test_docstrings_and_self_count_for_nothing(found: dict[str, Any]) -> None:
    assert found["long_functions"] == {"top.py:long": 61}
    assert found["many_arguments"] == {"west/up.py:wide": 8}
    assert list(found["complex_functions"]) == ["west/down.py:4"]
    assert found["functions"] == 6


def test_circles_are_of_modules_or_of_rooms_and_lazy_imports_make_them(found: dict[str, list[list[str]]]) -> None:
    assert found["module_circles"] == [["madeup.ring.first", "madeup.ring.second"]]
    assert found["room_circles"] == [["east", "west"]]


def test_table_names_what_it_counts(script: Callable[[str], ModuleType], found: dict[str, object]) -> None:
    table = script("count_code").as_markdown(found)
    assert "| import circles of rooms | 1 | east, west |" in table
    assert "| functions with 8 or more arguments | 1 | west/up.py:wide (8) |" in table


def test_tables_of_the_results_are_their_numbers(script: Callable[[str], ModuleType]) -> None:
    """The page shows what docs/research/tables holds; every file of numbers there is a table of the page."""
    tables = script("make_tables")
    page = (tables.DOCS / "results.md").read_text(encoding="utf-8")
    folder = tables.DOCS / "research" / "tables"
    assert tables.filled_in(page, folder) == page
    assert {f"<!-- table: {path.stem} -->" in page for path in folder.glob("*.csv")} == {True}


def test_tables_are_pivoted_with_the_best_in_bold(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """A line a cell becomes a row a method; PSNR and SSIM are each bold where they are the highest of a column."""
    lines = [
        "row,column,value,deviation,ssim",
        "tv,chest,37.72,,0.962",
        "tv,seconds,8,,",
        "d3ip,chest,38.53,0.03,0.962",
    ]
    (tmp_path / "made.csv").write_text("\n".join(lines), encoding="utf-8")
    head = "<!-- table: made -->\n| method | chest | seconds |\n|---|---|---|\n"
    expected = "| tv | 37.72 / **0.962** | 8 |\n| d3ip | **38.53 ± 0.03 / 0.962** | |\n"
    assert script("make_tables").filled_in(f"{head}| old | 1 | 2 |\n\nText.", tmp_path) == f"{head}{expected}\nText."


def test_rows_of_a_measurement_become_a_table(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Its columns are those of the file that the page is made of, rounded; what is not measured is empty."""
    results = script("make_results")
    row = {"row": "fbp", "psnr": 27.136, "ssim": 0.5421, "residual": 4.5972, "held_out_residual": None, "seconds": 0.2}
    results.write_table(tmp_path / "quality.csv", "quality", [row])
    header, line = (tmp_path / "quality.csv").read_text(encoding="utf-8").splitlines()
    tables = results.Path(results.__file__).parents[1] / "docs" / "research" / "tables"
    assert header == (tables / "chest.csv").read_text(encoding="utf-8").splitlines()[0]
    assert line == "fbp,27.14,0.542,4.597,,0"
