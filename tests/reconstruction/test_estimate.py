"""What runs teach of the seconds of their phases and of memory, and what that says of other runs."""

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
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.estimate import Estimate, Run, estimate, learn, learn_memory, planned, trial
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.settings import METHODS, RunSettings, Settings, methods, methods_for

SCAN = Extent("sinogram", 32, 128, 128, 60 * 128)


def scan_of(kind: str, slices: int = 4) -> Measurement:
    rng = np.random.default_rng(0)
    if kind == "sinogram":
        data = rng.random((slices, 24, 32), dtype=np.float32) + 1
        return Sinogram(data, np.linspace(0, 180, 24, endpoint=False))
    if kind == "stack":
        return ImageStack(rng.random((slices, 24, 20), np.float32), psf=np.ones((3, 3, 3), np.float32))
    shape = (slices, 2, 24, 20)
    data = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    data[:, :, [*range(1, 10, 2), *range(15, 24, 2)]] = 0  # Every second line and the centre.
    return KSpace(data.astype(np.complex64))


def settings(**fields: Any) -> Settings:
    """Resolved, as the engine does for a sinogram."""
    given = {"backend": "matrix", "prior": "phantom", "steps": 4, "start_t": 30, "adapt_steps": 10, "planes": "axial"}
    asked = Settings.create({**given, "adapt_loss": "fidelity", "start_iterations": 50, "adapt_splits": 0, **fields})
    return fill_in(asked, scan_of("sinogram"))


def history(used: Settings, slices: int) -> tuple[list[dict[str, Any]], float]:
    """What a made-up machine would note of a run, and its seconds in all."""
    phases = plan(RunSettings.create(used), slices)
    took = []
    for index, phase in enumerate(phases):
        admm = used.final_admm_steps if index == len(phases) - 1 else used.admm_steps
        took.append(
            {
                "first reconstruction": 0.02 * slices * (used.start_iterations or 1),
                "adaptation": 3.0 + 0.5 * (used.adapt_steps or 1),
                "sampling": slices * (0.4 + 0.01 * admm * (1 + used.cg_steps)),
                "iteration": 0.1 * slices,
            }[phase]
        )
    steps = [{"phase": phase, "seconds": seconds} for phase, seconds in zip(phases, took, strict=True)]
    return steps, 0.5 + sum(took)


def rates_of_trial(**fields: Any) -> dict[str, float]:
    runs = []
    for short in trial(settings(tv_weight=0.1, guard=False, **fields)):
        runs.append(Run(replace(SCAN, slices=8), short, short, *history(short, 8)))
    return learn({}, *runs)


RATES = rates_of_trial() | rates_of_trial(method="tv") | rates_of_trial(method="cg")


def estimated(extent: Extent = SCAN, rates: dict[str, float] = RATES, **fields: Any) -> Estimate:
    known = estimate(extent, settings(**{"tv_weight": 0.1, "guard": False, **fields}), rates)
    assert known is not None
    return known


class TestLearned:
    @pytest.mark.parametrize("method", ["tv", "dds", "d3ip"])
    @pytest.mark.parametrize("slices", [8, 100])
    def test_a_trial_foretells_a_run_of_more_slices_steps_and_iterations(self, method: str, slices: int) -> None:
        extent = replace(SCAN, slices=slices)
        fields = {"method": method, "steps": 12, "iterations": 200, "adapt_steps": 40}
        _, seconds = history(settings(**fields), slices)
        assert estimated(extent, rates_of_trial(method=method), **fields).seconds == pytest.approx(seconds, rel=0.15)

    @pytest.mark.parametrize("factor", [0.2, 5.0])
    def test_runs_correct_what_was_known(self, factor: float) -> None:
        used, rates, errors = settings(tv_weight=0.1, guard=False), RATES, []
        steps, seconds = history(used, SCAN.slices)
        slower = [{**step, "seconds": factor * step["seconds"]} for step in steps]
        for _ in range(3):
            rates = learn(rates, Run(SCAN, used, used, slower, factor * seconds))
            errors.append(abs(np.log(estimated(rates=rates).seconds / (factor * seconds))))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.1

    def test_other_phases_stay_as_they_were(self) -> None:
        tv = settings(method="tv", tv_weight=0.1)
        assert learn({"sampling": 7.0}, Run(SCAN, tv, tv, *history(tv, 32)))["sampling"] == 7.0

    def test_choosing_weights_is_learned_apart(self) -> None:
        asked, used = (settings(method="tv", iterations=50, tv_weight=weight) for weight in (None, 0.2))
        steps, seconds = history(used, 32)
        steps[0]["seconds"] += 50
        rates = learn(RATES, Run(SCAN, asked, used, steps, seconds + 50))
        given, chosen = (
            estimated(rates=rates, method="tv", iterations=50, tv_weight=weight).seconds for weight in (0.1, None)
        )
        assert chosen == pytest.approx(seconds + 50, rel=0.1)
        assert given == pytest.approx(seconds, rel=0.1)

    @pytest.mark.parametrize(
        "steps", [[{"phase": "sampling", "seconds": 1.0}], [{"phase": "iteration", "seconds": 1.0}]]
    )
    def test_a_run_of_other_steps_than_planned_teaches_nothing(self, steps: list[dict[str, Any]]) -> None:
        assert learn(RATES, Run(SCAN, settings(), settings(), steps, 2.0)) == RATES
        assert learn({}) == {}


class TestEstimate:
    def test_counts_are_read_where_they_are_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = estimated().seconds
        for longer in (
            {"steps": 8},
            {"start_iterations": 500},
            {"adapt_steps": 20},
            {"adapt_slices": 6},
            {"planes": "all"},
        ):
            assert estimated(**longer).seconds > 1.05 * usual
        assert estimated(adapt_every=2).seconds < usual
        for name in ("admm_steps", "final_admm_steps", "cg_steps"):
            assert estimated(**{name: 2 * Settings.model_fields[name].default}).seconds > 1.02 * usual
        checks = len(planned(SCAN, settings(method="dip")))
        monkeypatch.setattr(methods, "CHECKS", 2 * methods.CHECKS)
        assert len(planned(SCAN, settings(method="dip"))) == 2 * checks - 1

    @pytest.mark.parametrize(("method", "times"), [("d3ip", 1), ("d3ip-meta", 1), ("ddip", 10), ("scd", 10)])
    def test_only_adaptation_of_every_slice_goes_with_their_number(self, method: str, times: int) -> None:
        def adaptation(slices: int) -> float:
            phases = planned(replace(SCAN, slices=slices), settings(method=method))
            return sum(sum(sizes.values()) for phase, sizes in phases if phase == "adaptation")

        assert adaptation(160) == pytest.approx(times * adaptation(16))

    def test_none_while_a_phase_is_not_known(self) -> None:
        for fields in ({"method": "tgv"}, {"prior": "mine"}, {"backend": "on-the-fly"}, {"adapt_loss": "scales"}):
            assert estimate(SCAN, settings(tv_weight=0.1, guard=False, **fields), RATES) is None

    @pytest.mark.parametrize(("method", "at_most"), [("cg", True), ("tv", True), ("d3ip", False)])
    def test_only_methods_that_end_early_are_at_most(self, method: str, at_most: bool) -> None:
        assert estimated(method=method).at_most is at_most

    def test_memory_goes_with_the_batch(self) -> None:
        unknown, batch = estimated(method="dds"), 32 * 128 * 128
        assert unknown.is_least
        wide = settings(method="dds", batch_slices=32)
        rates = learn_memory(RATES, SCAN, wide, unknown.memory_bytes + 500 * batch)
        whole, half = (estimated(rates=rates, method="dds", batch_slices=n) for n in (32, 16))
        assert not half.is_least
        assert whole.memory_bytes == pytest.approx(unknown.memory_bytes + 500 * batch)
        assert half.memory_bytes == pytest.approx(unknown.memory_bytes + 250 * batch)
        assert learn_memory({}, SCAN, settings(method="tv"), 1e12) == learn_memory({}, SCAN, wide, 1.0) == {}

    def test_memory_of_projectors(self) -> None:
        large = replace(SCAN, height=1024, width=1024, samples=180 * 1024)
        stored, made, theirs = (
            estimated(large, rates_of_trial(method="tv", backend=backend), method="tv", backend=backend).memory_bytes
            for backend in ("matrix", "on-the-fly", "torch-radon")
        )
        assert stored - theirs == matrix_bytes(large) > 4e9
        assert made - theirs < 1e9


class TestTrial:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("kind", ["sinogram", "kspace", "stack"])
    def test_goes_through_all_phases_in_less(self, method: str, kind: str) -> None:
        if method not in methods_for(kind):
            return
        scan = scan_of(kind)
        extent, wanted = Extent.from_measurement(scan), Settings.create(method=method)
        whole = planned(replace(extent, slices=64), fill_in(wanted, scan))
        runs = [planned(extent, fill_in(short, scan)) for short in trial(wanted)]
        assert {name for _, sizes in whole for name in sizes} == {n for run in runs for _, sizes in run for n in sizes}
        assert all(len(run) <= len(whole) for run in runs)

    @pytest.mark.parametrize("start_t", [1, 2, 300])
    def test_is_possible(self, start_t: int) -> None:
        assert all((short.steps or 0) <= start_t for short in trial(Settings.create(start_t=start_t)))


class Workload(TorchDispatchMode):
    """A clock that runs on with the numbers that torch has computed, so that it is the same on every machine."""

    seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.seconds += 1e-6 * sum(each.numel() for each in tree_leaves(made) if isinstance(each, torch.Tensor))
        return made


@pytest.mark.parametrize(("kind", "method"), [("sinogram", "d3ip"), ("kspace", "tv")])
def test_a_trial_of_four_slices_foretells_eight(
    kind: str, method: str, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = scan_of(kind, 4), scan_of(kind, 8)
    longer = {"steps": 3, "adapt_steps": 6, "iterations": 20, "start_iterations": 16, "final_admm_steps": 10}
    weight = {} if method == "d3ip" else {"tv_weight": None}  # Chosen in the other.
    asked = Settings.create({**tiny, **longer, **weight}, method=method)
    runs = []
    with Workload() as workload:
        monkeypatch.setattr(time, "monotonic", lambda: workload.seconds)
        for scan, each in ((few, trial(asked)[0]), (few, trial(asked)[1]), (many, asked)):
            result = reconstruct(scan, each)
            runs.append(
                Run(Extent.from_measurement(scan), each, result.settings, result.history, result.metrics["seconds"])
            )
    *tried, whole = runs
    known = estimate(whole.extent, fill_in(asked, many), learn({}, *tried))
    assert known is not None
    assert whole.seconds / 1.4 < known.seconds < 1.4 * whole.seconds
