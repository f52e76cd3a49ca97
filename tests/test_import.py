"""The package opens fast: its names are loaded on first use, torch and Qt only when needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import napari_d3ip

_HEAVY = ["torch", "diffusers", "peft", "napari", "qtpy", "PyQt6", "PySide6", "magicgui", "matplotlib"]


def _loaded(code: str) -> set[str]:
    """Names of heavy packages in a fresh interpreter that ran ``code``."""
    report = f"import sys, json; print(json.dumps([name for name in {_HEAVY!r} if name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import napari_d3ip; dir(napari_d3ip)",
        "from napari_d3ip import Settings, Sinogram, reconstruct, read",
        "from napari_d3ip.cli.main import main; main(['--help'])",
        "from napari_d3ip.cli.main import main; main(['reconstruct', '--help'])",
    ],
)
def test_loads_nothing_heavy(code: str) -> None:
    assert _loaded(code) == set()


def test_the_engine_loads_no_qt() -> None:
    assert _loaded("import napari_d3ip.reconstruction.engine").isdisjoint(
        {"napari", "qtpy", "PyQt6", "PySide6", "magicgui"}
    )


@pytest.mark.parametrize("name", napari_d3ip.__all__)
def test_public_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(napari_d3ip, name).__doc__


def test_names_for_type_checkers_are_those_that_are_loaded() -> None:
    assert napari_d3ip.__all__ == sorted(napari_d3ip._HOMES)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        napari_d3ip.nonsense  # noqa: B018
