"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_d3ip.cli.main import main


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Sentence of a reconstruction that must not start; checks that nothing is left."""

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("the reconstruction started")

    monkeypatch.setattr("napari_d3ip.reconstruction.engine._Engine._prepare", started)

    def run(scan: Path, *options: str, out: Path | None = None) -> str:
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert main(["reconstruct", str(scan), "-o", str(out or tmp_path / "volume.tif"), *options]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        return said.err

    return run
