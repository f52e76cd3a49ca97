"""Adapters of a result, kept as a PEFT folder, and where the next scan of the same kind starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_d3ip.adaptation.saved import load_adapter
from napari_d3ip.measurement import Sinogram
from napari_d3ip.widgets.layers import measurement_layer

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

    from napari_d3ip.measurement import KSpace

QUICK = {
    "device": "cpu",
    "steps": 1,
    "start_t": 20,
    "adapt_steps": 1,
    "adapt_slices": 1,
    "adapt_loss": "fidelity",
    "start_iterations": 2,
    "admm_steps": 1,
    "final_admm_steps": 1,
    "tv_weight": 1e-3,
    "guard": False,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the user answers to the dialogs; a dialog's proposal is taken."""
    answers: dict[str, str] = {}

    def save(_: Any, title: str, proposed: str) -> tuple[str, str]:
        return answers.get(title, proposed), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", save)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda _, title, *__: answers.get(title, ""))
    return answers


def run(bench: Bench, **fields: Any) -> Any:
    bench.set({**QUICK, **fields})
    bench.click("run")
    bench.wait_idle()
    return bench.viewer.layers[-1]


@pytest.fixture
def saved(bench: Bench, asked: dict[str, str]) -> Bench:
    """A run whose adapters were saved where the dialog proposes."""
    run(bench)
    bench.click("save_adapter")
    return bench


def test_saved_and_offered_to_the_next_scan_of_the_kind(
    saved: Bench, adapters_folder: Path, measurement: Sinogram, k_space: KSpace, notifications: list[Any]
) -> None:
    bench, folder = saved, adapters_folder / "rods_d3ip"
    layer = bench.viewer.layers["rods [d3ip]"]
    kept = layer.metadata["napari_d3ip"]["adapter"].weights
    assert all(np.array_equal(kept[name], weight) for name, weight in load_adapter(folder).weights.items())
    assert bench.offers("adapter") == ["none", "rods_d3ip", "Other folder…"]
    bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
    assert bench.offers("adapter") == ["none", "Other folder…"]
    bench.viewer.add_layer(Layer.create(*measurement_layer(Sinogram(2 * measurement.data, measurement.angles))))
    bench.choose("adapter", "rods_d3ip")
    assert bench.child("run").isEnabled()
    warm = run(bench, learning_rate=1e-12)
    provenance = warm.metadata["napari_d3ip"]
    assert provenance["settings"]["adapter"] == str(folder)
    assert all(np.allclose(kept[n], w, atol=1e-6) for n, w in provenance["adapter"].weights.items())
    assert not [note for note in notifications if str(note.severity) == "error"]


def test_offered_in_the_next_session(saved: Bench, open_bench: Any) -> None:
    assert "rods_d3ip" in open_bench().offers("adapter")


def test_adapters_of_another_prior_hold_the_run_back(saved: Bench, prior_folder: Path) -> None:
    saved.choose("adapter", "rods_d3ip")
    saved.widget._form.show({"prior": str(prior_folder)})
    assert saved.child("adapter_reason").text().endswith("is of the prior 'phantom'; choose that prior.")
    assert not saved.child("run").isEnabled()
    saved.choose("adapter", "none")
    assert saved.child("run").isEnabled()


def test_any_folder_can_be_taken(saved: Bench, asked: dict[str, str], tmp_path: Path) -> None:
    asked["Save adapter"] = str(tmp_path / "elsewhere")
    saved.click("save_adapter")
    assert "elsewhere" in saved.offers("adapter")
    saved.choose("adapter", "elsewhere")
    last = saved.child("adapter").count() - 1
    asked["Folder of saved adapters"] = ""
    saved.qtbot.keyClick(saved.child("adapter"), Qt.Key.Key_End)
    assert saved.child("adapter").currentText() == "elsewhere"  # The dialog was dismissed.
    asked["Folder of saved adapters"] = str(tmp_path)
    saved.qtbot.keyClick(saved.child("adapter"), Qt.Key.Key_End)
    assert saved.child("adapter").count() == last + 2
    assert saved.child("adapter").currentText() == tmp_path.name
    assert saved.child("adapter_reason").text().startswith(f"adapter: {tmp_path} is no folder of saved adapters")
    assert not saved.child("run").isEnabled()


def test_folder_of_something_else(
    saved: Bench, asked: dict[str, str], tmp_path: Path, notifications: list[Any]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    notifications.clear()
    asked["Save adapter"] = str(tmp_path / "notes")
    saved.click("save_adapter")
    assert [note.message for note in notifications] == [
        f"adapter: {tmp_path / 'notes'} holds something else; choose a new folder."
    ]


def test_dismissed_dialog_saves_nothing(
    bench: Bench, asked: dict[str, str], adapters_folder: Path, notifications: list[Any]
) -> None:
    asked["Save adapter"] = ""
    run(bench)
    bench.click("save_adapter")
    assert list(adapters_folder.iterdir()) == []
    assert not notifications


def test_not_offered_for_results_without_adapters(bench: Bench) -> None:
    run(bench)
    assert bench.child("save_adapter").isVisible()
    run(bench, method="cg", iterations=2)
    assert not bench.child("save_adapter").isVisible()
