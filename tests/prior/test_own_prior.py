"""A prior of one's own from images or phantoms to the folder, by script and command line, with its model card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import napari_d3ip as d3
from napari_d3ip.errors import D3IPError, PriorError, SettingsError
from napari_d3ip.prior import own_prior, train
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.train import TrainingProgress
from napari_d3ip.prior.training_settings import FINE_TUNING, Intervals, TrainingSettings

QUICK: dict[str, Any] = {"steps": 4, "batch": 4, "size": 16, "width": 8, "warmup": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def few_held_out_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "Intervals", SimpleNamespace(from_settings=lambda _: Intervals(10, 25, 8)))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Three volumes of bright blocks."""
    random = np.random.default_rng(0)
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    for file in files:
        volume = np.zeros((4, 20, 20), np.float32)
        volume[:, 4:15, 4:15] = random.uniform(0.5, 1, (4, 1, 1))
        np.save(file, volume)
    return files


def draw(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((24, 24))
    image[rng.integers(0, 12) :] = 0.8
    return image


def card_of(folder: Path) -> str:
    for name in ("loss.png", "samples.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (folder / "README.md").read_text(encoding="utf-8")
    return (folder / "README.md").read_text(encoding="utf-8")


def test_from_images_and_a_prior(images: list[Path], prior_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    last = d3.train_prior(out, images=images, initial=prior_folder, **QUICK)
    assert last.step == last.total == 4
    assert last.start_loss is not None
    assert load_prior(out).config.channels == 1
    record = json.loads((out / "training.json").read_text())
    assert record["settings"]["replay"] == FINE_TUNING.replay
    assert record["start"]["known_loss"] > 0
    assert record["known_loss"] > 0
    card = card_of(out)
    assert "# Model card: `mine`" in card
    assert "**Start**: the prior `tiny`." in card
    assert "25% of the images were ellipses" in card
    for part in ("training", "held_out"):
        for volume in record["images"][part]:
            assert f"{volume['name']}, 4 × 20 × 20, 4 slices, SHA-256 `{volume['sha256']}`" in card
    assert str(tmp_path) not in card
    assert last.best is not None
    assert f"from {last.start_loss:.4f} to {last.best.held_out_loss:.4f} at step {last.best.step}" in card


@pytest.mark.parametrize("channels", [1, 2])
def test_from_a_function(tmp_path: Path, channels: int) -> None:
    d3.train_prior(tmp_path / "mine", phantoms=draw, initial=None, channels=channels, **QUICK)
    assert load_prior(tmp_path / "mine").config.channels == channels
    card = card_of(tmp_path / "mine")
    assert f"phantoms drawn on the fly, `{__name__}:draw` (file with SHA-256 `" in card
    assert "**Start**: random weights." in card
    assert "Replay" not in card


def test_resumed(images: list[Path], prior_folder: Path, tmp_path: Path) -> None:
    given = {**QUICK, "images": images, "initial": prior_folder, "steps": 14}
    d3.train_prior(tmp_path / "whole", **given)
    stopped = d3.iter_train_prior(tmp_path / "parts", **given)
    assert next(stopped).step == 10
    stopped.close()
    assert (tmp_path / "parts" / "checkpoint.pt").exists()
    assert d3.train_prior(tmp_path / "parts", resume=True, **given).step == 14
    whole, parts = (load_prior(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(parts[name], weight) for name, weight in whole.items())


class TestWhatIsUsual:
    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the training was asked for, without doing it."""
        seen: dict[str, Any] = {}

        def asked(folder: Path, settings: TrainingSettings, **options: Any) -> Iterator[TrainingProgress]:
            seen.update(options, settings=settings)
            yield TrainingProgress(1, 1, 0.5, None)

        monkeypatch.setattr(own_prior, "train", asked)
        return seen

    def test_own_images_start_from_the_shipped_prior(self, seen: dict[str, Any], images: list[Path]) -> None:
        d3.train_prior("out", images=images[0].parent, size=16, device="cpu")
        assert seen["initial"].name == "phantom"
        assert seen["settings"] == TrainingSettings(
            steps=20000, learning_rate=2e-4, warmup=50, replay=0.25, patience=500, size=16, phantoms=None
        )

    def test_our_phantoms_from_nothing(self, seen: dict[str, Any]) -> None:
        d3.train_prior("out", phantoms="mixed", device="cpu")
        assert seen["initial"] is None
        assert seen["settings"] == TrainingSettings(phantoms="mixed")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, r"^images, phantoms: give one of them, got none\.$"),
        ({"images": "a.npy", "phantoms": draw}, r"^images, phantoms: give one of them, got both\.$"),
        ({"phantoms": draw, "stepps": 3}, r"^stepps: is no setting of a training; these are batch, channels, "),
        ({"phantoms": draw, "width": 16, "size": 16}, r"^phantom holds another network; give the same width"),
        ({"phantoms": draw, "size": 32}, r"^phantoms: .*:draw must return a slice .* of 32 × 32 pixels or more, got"),
    ],
)
def test_what_cannot_be_trained(options: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(D3IPError, match=expected) as told:
        d3.train_prior(tmp_path / "out", device="cpu", **options)
    assert isinstance(told.value, SettingsError if "stepps" in options else PriorError)
    assert not (tmp_path / "out").exists()
