"""Registries: a method or a kind of measurement that is registered in one place is known everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.methods.run import Event, Run
from napari_d3ip.operators.base import LinearOperator
from napari_d3ip.preparation.base import Check, LinearData, Preparation, normalised, prepare_kind
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import (
    METHODS,
    Family,
    Kind,
    Method,
    RunSettings,
    Settings,
    fields_for,
    kinds,
    methods,
    methods_for,
    validation_errors,
)


def halve(run: Run) -> Iterator[Event]:
    """Halve the direct reconstruction, as often as ``iterations`` says."""
    volume = run.direct()
    for _ in range(run.settings.iterations):
        volume = volume / 2
        yield Event("iteration", volume)


HALVE = Method(
    "halve",
    "Halve the direct reconstruction.",
    halve,
    Family.REGULARIZED,
    ("sinogram",),
    ("iterations",),
    lambda settings, slices: ["iteration"] * settings.iterations,
)


class Identity(LinearOperator):
    """Each voxel is measured."""

    def __init__(self, height: int, width: int) -> None:
        self.domain_shape = self.range_shape = (height, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y


@dataclass(frozen=True, eq=False)
class Photographs(Measurement):
    """Pictures, one a slice."""

    kind: ClassVar[str] = "photographs"
    data: Any

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        z, y, x = self.data.shape
        return z, y, x

    def select(self, *, slices: slice | None = None) -> Self:
        raise NotImplementedError

    def _details(self) -> dict[str, Any]:
        return {"axes": ["z", "y", "x"]}


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Method:
    monkeypatch.setitem(methods._REGISTERED, HALVE.name, HALVE)
    return HALVE


class TestMethod:
    @pytest.mark.usefixtures("method")
    def test_applies_to_its_kinds_with_its_settings(self) -> None:
        assert "halve" in methods_for("sinogram")
        assert "halve" not in methods_for("kspace")
        fields = fields_for("sinogram", "halve")
        assert "iterations" in fields
        assert "noise_level" in fields
        assert "tv_weight" not in fields
        assert validation_errors({"method": "halve"}) == {}

    @pytest.mark.usefixtures("method")
    def test_runs_as_planned(self, make_scan: Callable[..., Any]) -> None:
        scan = make_scan().measurement
        settings = Settings.create(method="halve", iterations=3, held_out_fraction=0.0, device="cpu")
        assert plan(resolve(settings, scan), 3) == ["iteration"] * 3
        result, whole = reconstruct(scan, settings), reconstruct(scan, method="fbp", device="cpu")
        np.testing.assert_allclose(result.volume, whole.volume / 8, rtol=1e-4, atol=1e-6)
        assert len(result.history) == 3
        assert result.metrics["returned"] == "halve"

    @pytest.mark.usefixtures("method")
    def test_is_refused_for_other_kinds(self, mr_scan: Any) -> None:
        with pytest.raises(SettingsError, match="halve does not reconstruct from k-space"):
            reconstruct(mr_scan.measurement, method="halve", device="cpu")

    def test_is_in_the_help_of_the_command_line(self) -> None:
        program = (
            "from napari_d3ip.settings import Family, Method, register\n"
            "register(Method('halve', 'Halve.', print, Family.DIRECT, ('sinogram',), (), lambda *_: ['iteration']))\n"
            "from napari_d3ip.cli.main import main\n"
            "main(['reconstruct', '--help'])\n"
        )
        shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert "halve" in shown

    def test_unknown_ones_are_refused_with_those_that_are_known(self) -> None:
        with pytest.raises(SettingsError, match=r"^method: 'halve' is not possible: .*'fbp', .*'d3ip-meta'"):
            Settings(method="halve")

    def test_every_method_has_a_function_and_a_sentence(self) -> None:
        for name, record in METHODS.items():
            assert callable(record.load()), name
            assert record.summary.endswith(".")
            assert set(record.fields) <= set(Settings.model_fields)


class TestKind:
    @pytest.fixture
    def pictures(self, monkeypatch: pytest.MonkeyPatch) -> Photographs:
        monkeypatch.setitem(kinds._REGISTERED, "photographs", Kind("photographs", "photographs", like="stack"))

        @prepare_kind.register(Photographs)
        def prepare(
            measurement: Photographs, settings: RunSettings, device: torch.device, check: Check
        ) -> Preparation:
            data = torch.tensor(measurement.data)
            used = torch.ones_like(data)
            measured = LinearData(Identity(*data.shape[1:]), data, used, torch.zeros_like(used), 0.01)
            problem, intensity = normalised(measured, settings, check)
            return Preparation(problem, torch.zeros_like(used), lambda: data / intensity, intensity, 0.01)

        rng = np.random.default_rng(0)
        return Photographs(data=rng.random((3, 12, 16), dtype=np.float32))

    def test_is_described_and_reconstructed(self, pictures: Photographs) -> None:
        assert pictures.describe()["kind"] == "photographs"
        assert methods_for("photographs") == methods_for("stack")
        assert "backend" not in fields_for("photographs", "tv")
        result = reconstruct(pictures, method="direct", device="cpu")
        np.testing.assert_allclose(result.volume, pictures.data, rtol=1e-4, atol=1e-5)

    def test_has_its_title_in_messages(self, pictures: Photographs) -> None:
        with pytest.raises(SettingsError, match="fbp does not reconstruct from photographs"):
            reconstruct(pictures, method="fbp", device="cpu")
