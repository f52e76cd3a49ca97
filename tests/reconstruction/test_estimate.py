"""Operations counted from scan and settings, and what runs teach of them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from napari_d3ip.measurement import ImageStack, KSpace, Measurement, Sinogram
from napari_d3ip.operators.backends import Extent, matrix_bytes
from napari_d3ip.reconstruction import estimate as cost
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.estimate import count, estimate, learn, learn_memory, slices_at_once, total, trial
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.settings import METHODS, Settings, methods_for

NETWORK = "network auto"
SCAN = Extent("sinogram", 32, 128, 128, 60 * 128)
SPEEDS = {
    NETWORK: 2.0,
    "sinogram": 1e-3,
    "start sinogram": 0.1,
    "kspace": 1e-3,
    "stack": 1e-3,
    "coils": 1.0,
    "network untrained": 1.0,
}


@pytest.fixture
def sinogram() -> Sinogram:
    rng = np.random.default_rng(0)
    return Sinogram(rng.random((4, 24, 32), dtype=np.float32) + 1, np.linspace(0, 180, 24, endpoint=False))


@pytest.fixture
def k_space() -> KSpace:
    rng = np.random.default_rng(0)
    shape = (4, 2, 24, 20)
    data = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    data[:, :, [*range(1, 10, 2), *range(15, 24, 2)]] = 0  # Every second line and the centre.
    return KSpace(data.astype(np.complex64))


@pytest.fixture
def stack() -> ImageStack:
    return ImageStack(np.random.default_rng(0).random((4, 24, 20)), psf=np.ones((3, 3, 3)))


def settings(**fields: Any) -> Settings:
    """Resolved, as the engine does for a sinogram."""
    given = {
        "steps": 4,
        "start_t": 30,
        "adapt_steps": 10,
        "adapt_loss": "fidelity",
        "planes": "axial",
        "tv_weight": 0.1,
    }
    return Settings.create({**given, **fields})


def seconds(extent: Extent = SCAN, **fields: Any) -> float:
    known = estimate(extent, settings(**fields), SPEEDS)
    assert known is not None
    return known.seconds


def amount(phase: str, extent: Extent = SCAN, **fields: Any) -> dict[str, float]:
    return total(step for step in count(extent, settings(**fields)) if step.phase == phase)


class TestCount:
    @pytest.mark.parametrize("method", METHODS)
    def test_steps_are_those_of_the_engine(
        self, method: str, sinogram: Sinogram, k_space: KSpace, stack: ImageStack
    ) -> None:
        for scan in (sinogram, k_space, stack):
            if method in methods_for(scan.kind):
                fields = {"refine_steps": 2, "refine_slices": "1:3", "adapt_groups": 2}
                resolved = fill_in(Settings.create(fields, method=method), scan)
                preparation, *steps = count(Extent.of(scan), resolved)
                assert preparation.phase == cost.PREPARATION
                assert [step.phase for step in steps] == plan(resolved, len(scan.data))

    @pytest.mark.parametrize("method", ["d3ip", "d3ip-mbir", "d3ip-meta"])
    @pytest.mark.parametrize("loss", ["fidelity", "scales", "equivariance"])
    def test_adaptation_of_the_volume_does_not_depend_on_its_slices(self, method: str, loss: str) -> None:
        few, many = (amount("adaptation", replace(SCAN, slices=n), method=method, adapt_loss=loss) for n in (16, 512))
        assert few == many

    @pytest.mark.parametrize("method", ["ddip", "scd"])
    def test_adaptation_of_every_slice_does(self, method: str) -> None:
        few, many = (amount("adaptation", replace(SCAN, slices=n), method=method) for n in (16, 160))
        assert many[NETWORK] == pytest.approx(10 * few[NETWORK])

    @pytest.mark.parametrize("method", ["d3ip", "d3ip-meta"])
    def test_adaptation_of_groups_goes_with_their_number(self, method: str) -> None:
        one, four = (amount("adaptation", method=method, adapt_groups=n, meta_groups=1) for n in (1, 4))
        assert four[NETWORK] == pytest.approx(4 * one[NETWORK])
        assert amount("adaptation", method="d3ip", adapt_groups=99) == amount("adaptation", method="ddip")

    def test_network_evaluations(self) -> None:
        pixels = 32 * 128 * 128 / 1e6
        assert amount("sampling", method="dds")[NETWORK] == pytest.approx(4 * pixels)
        assert amount("sampling", method="dds", planes="all")[NETWORK] == pytest.approx(12 * pixels)
        adapted = amount("adaptation", method="d3ip", adapt_slices=3, guard=False)[NETWORK]
        # L steps on K slices, with gradients, at each of four times.
        assert adapted == pytest.approx(4 * 10 * 3 * 3 * 128 * 128 / 1e6)

    def test_rescans(self) -> None:
        """Two runs of 12 slices by 60 iterations before each of four steps, and as many evaluations of the network."""
        plain, rescanned = (
            amount("adaptation", method="d3ip", guard=False, adapt_loss=loss) for loss in ("fidelity", "equivariance")
        )
        assert rescanned[NETWORK] == pytest.approx(plain[NETWORK])
        started = amount("first reconstruction", method="d3ip", start_iterations=60)["sinogram"]
        assert rescanned["sinogram"] == pytest.approx(4 * started * 24 / SCAN.slices, rel=0.02)

    def test_splits(self) -> None:
        """12 that teach and 3 that judge, of 8 slices each, follow in all steps but the first."""
        split = {"method": "d3ip", "adapt_leave_out": 0.3, "adapt_splits": 12}
        slices = 128 * 128 / 1e6
        plain = amount("adaptation", method="d3ip", guard=False)
        unjudged, judged = (amount("adaptation", **split, guard=guard) for guard in (False, True))
        assert unjudged[NETWORK] == pytest.approx(plain[NETWORK] + 3 * 96 * slices)
        assert judged[NETWORK] == pytest.approx(plain[NETWORK] + 3 * 120 * slices + 4 * 2 * 24 * slices)
        assert unjudged["sinogram"] > plain["sinogram"]
        every = amount("sampling", **split, adapt_every=2, guard=False)[NETWORK]
        assert every == pytest.approx(amount("sampling", method="dds")[NETWORK] + 2 * 96 * slices)

    def test_weights_that_are_given_are_not_chosen(self) -> None:
        assert seconds(method="tv", tv_weight=None) > 1.2 * seconds(method="tv", tv_weight=0.1)


class TestEstimate:
    @pytest.mark.parametrize("method", ["dds", "ddnm", "diffpir", "dps", "ddip", "d3ip", "d3ip-meta"])
    def test_more_takes_longer(self, method: str) -> None:
        usual = seconds(method=method)
        assert seconds(method=method, steps=8) > usual
        assert seconds(replace(SCAN, slices=64), method=method) > usual
        assert seconds(replace(SCAN, samples=120 * 128), method=method) > usual

    def test_adaptation_settings(self) -> None:
        usual = seconds()
        for longer in ({"adapt_steps": 20}, {"adapt_slices": 6}, {"adapt_cg_steps": 9}, {"planes": "all"}):
            assert seconds(**longer) > usual
        assert seconds(adapt_every=2) < usual

    def test_none_while_something_is_not_known(self) -> None:
        known = {"sinogram": 1e-3, "start sinogram": 0.1}
        assert estimate(SCAN, settings(method="tv"), known) is not None
        assert estimate(SCAN, settings(method="dds"), known) is None
        assert estimate(SCAN, settings(method="dds"), {}) is None

    def test_batches_and_memory(self) -> None:
        speeds = {**SPEEDS, "memory auto": 1000.0}
        whole, halves = (estimate(SCAN, settings(batch_slices=n), speeds) for n in (32, 16))
        assert whole is not None
        assert halves is not None
        assert [slices_at_once(SCAN, settings(batch_slices=n)) for n in (64, 32, 16)] == [32, 32, 16]
        assert slices_at_once(SCAN, settings(method="tv")) == 0
        assert halves.memory_bytes < whole.memory_bytes
        assert not halves.is_least
        unknown = estimate(SCAN, settings(), SPEEDS)
        assert unknown is not None
        assert unknown.is_least
        assert unknown.memory_bytes < halves.memory_bytes

    def test_projectors_without_a_matrix_take_less_memory_and_are_learned_apart(self) -> None:
        large = replace(SCAN, height=1024, width=1024, samples=180 * 1024)
        speeds = {**SPEEDS, "sinogram on-the-fly": 1e-3, "sinogram torch-radon": 1e-3}
        stored, made, theirs = (
            estimate(large, settings(method="tv", backend=backend), speeds)
            for backend in ("matrix", "on-the-fly", "torch-radon")
        )
        assert stored is not None
        assert made is not None
        assert theirs is not None
        assert stored.memory_bytes - theirs.memory_bytes == matrix_bytes(large) > 4e9
        assert made.memory_bytes - theirs.memory_bytes < 1e9
        assert made.seconds > theirs.seconds
        assert estimate(large, settings(method="tv", backend="on-the-fly"), SPEEDS) is None

    def test_only_methods_that_end_early_are_at_most(self) -> None:
        for method, at_most in (("cg", True), ("dip", True), ("tv", True), ("d3ip", False)):
            known = estimate(SCAN, settings(method=method), SPEEDS)
            assert known is not None
            assert known.at_most is at_most


def made_up_run(extent: Extent, used: Settings, speeds: dict[str, float]) -> tuple[list[dict[str, Any]], float]:
    """History and seconds of a run on a machine of these speeds."""
    took = [sum(n * speeds[name] for name, n in step.amounts.items()) for step in count(extent, used)]
    history = [
        {"phase": step.phase, "seconds": each} for step, each in zip(count(extent, used)[1:], took[1:], strict=True)
    ]
    return history, sum(took)


class TestLearn:
    @pytest.mark.parametrize("speed", [0.3, 3.0])
    def test_finds_the_speeds_of_a_machine(self, speed: float) -> None:
        true = {NETWORK: 10 * speed, "sinogram": 1e-2 * speed, "start sinogram": 1.0 * speed}
        found = learn({}, SCAN, settings(), settings(), *made_up_run(SCAN, settings(), true))
        assert found == pytest.approx(true, rel=0.2)

    def test_is_improved_by_runs(self) -> None:
        true = {NETWORK: 5.0, "sinogram": 1e-2, "start sinogram": 1.0}
        speeds = {NETWORK: 1.0, "sinogram": 1e-3, "start sinogram": 0.1}
        errors = []
        for _ in range(4):
            speeds = learn(speeds, SCAN, settings(), settings(), *made_up_run(SCAN, settings(), true))
            errors.append(abs(np.log(speeds[NETWORK] / true[NETWORK])))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.15

    def test_a_slow_first_step_counts_little(self) -> None:
        true = {NETWORK: 5.0, "sinogram": 1e-2, "start sinogram": 1.0}
        history, whole = made_up_run(SCAN, settings(method="dds"), true)
        first = next(entry for entry in history if entry["phase"] == "sampling")
        whole, first["seconds"] = whole + 9 * first["seconds"], 10 * first["seconds"]
        found = learn({}, SCAN, settings(), settings(method="dds"), history, whole)
        assert found[NETWORK] < 3 * true[NETWORK]  # In all it is three times slower.

    def test_what_a_run_does_not_do_stays_as_it_was(self) -> None:
        tv = settings(method="tv")
        found = learn({NETWORK: 7.0}, SCAN, tv, tv, *made_up_run(SCAN, tv, SPEEDS))
        assert found[NETWORK] == 7.0
        assert "sinogram" in found

    def test_chosen_weights_take_time(self) -> None:
        asked, used = settings(method="tv", tv_weight=None), settings(method="tv", tv_weight=0.2)
        found = learn({}, SCAN, asked, used, *made_up_run(SCAN, asked, SPEEDS))
        assert found["sinogram"] == pytest.approx(SPEEDS["sinogram"], rel=0.2)

    def test_another_run_than_planned_teaches_nothing(self) -> None:
        history = [{"phase": "sampling", "seconds": 1.0}]
        assert learn(SPEEDS, SCAN, settings(), settings(), history, 2.0) == SPEEDS
        assert learn({}, SCAN, settings(), settings(), [], 0.0) == {}

    def test_memory(self) -> None:
        batch = 32 * 128 * 128
        base = estimate(SCAN, settings(method="dds", batch_slices=32), SPEEDS)
        assert base is not None
        found = learn_memory({}, SCAN, settings(method="dds", batch_slices=32), base.memory_bytes + 500 * batch)
        assert found == pytest.approx({"memory auto": 500.0})
        assert learn_memory({}, SCAN, settings(method="tv"), 1e12) == {}
        assert learn_memory({}, SCAN, settings(method="dds"), 1.0) == {}


class TestTrial:
    @pytest.mark.parametrize("method", METHODS)
    def test_does_all_of_the_run_but_less(
        self, method: str, sinogram: Sinogram, k_space: KSpace, stack: ImageStack
    ) -> None:
        for scan in (sinogram, k_space, stack):
            if method not in methods_for(scan.kind):
                continue
            extent, wanted = replace(Extent.of(scan), slices=64), fill_in(Settings.create(method=method), scan)
            slices, short = trial(extent, Settings.create(method=method))
            whole, tried = (
                total(count(extent, wanted)),
                total(count(replace(extent, slices=slices), fill_in(short, scan))),
            )
            assert tried.keys() == whole.keys()
            assert all(tried[name] < whole[name] for name in whole if not name.startswith("start"))

    @pytest.mark.parametrize("start_t", [1, 2, 300])
    def test_is_possible(self, start_t: int) -> None:
        _, short = trial(SCAN, Settings.create(start_t=start_t))
        assert (short.steps or 0) <= start_t


class Workload(TorchDispatchMode):
    """A clock that runs on with the numbers that torch has computed, so that it is the same on every machine."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.seconds += 1e-6 * sum(each.numel() for each in tree_leaves(made) if isinstance(each, torch.Tensor))
        return made


@pytest.mark.parametrize("method", ["tv", "d3ip"])
@pytest.mark.parametrize("kind", ["sinogram", "kspace"])
def test_of_a_run_that_was_learned_from(
    method: str, kind: str, sinogram: Sinogram, k_space: KSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a real run took, from the speeds that it taught."""
    scan: Measurement = sinogram if kind == "sinogram" else k_space
    asked = Settings.create(method=method, device="cpu", steps=2, adapt_steps=2, start_iterations=20, iterations=20)
    with Workload() as workload:
        monkeypatch.setattr(time, "monotonic", lambda: workload.seconds)
        result = reconstruct(scan, asked)
    took = result.metrics["seconds"]
    speeds = learn({}, Extent.of(scan), asked, result.settings, result.history, took)
    known = estimate(Extent.of(scan), fill_in(asked, scan), speeds)
    assert known is not None
    assert took / 2 < known.seconds < 2 * took
