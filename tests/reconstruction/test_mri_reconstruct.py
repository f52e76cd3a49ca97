"""The engine on k-space: all methods, the way back to the measurement's units and phase, what it must refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_d3ip.errors import D3IPError, FileError, MeasurementError, PriorError, SettingsError
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.mri import NonCartesianSense
from napari_d3ip.preparation import prepare
from napari_d3ip.preparation.mri import zero_filled
from napari_d3ip.preparation.weights import choose_weight, tv_iterates, wavelet_iterates
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.noise import correlated_noise, white_noise
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.reconstruction import Control, Reconstruction, Step, iter_reconstruct, reconstruct
from napari_d3ip.reconstruction.resolve import fill_in, resolve
from napari_d3ip.reconstruction.start import first_reconstruction
from napari_d3ip.settings import PAPER_MRI, PRESETS, Family, Settings, methods_for, names_where
from napari_d3ip.solvers.problem import Weights
from napari_d3ip.solvers.total_variation import Regulariser

ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))
DIFFUSION_METHODS = names_where(lambda method: method.needs_prior)
DIRECT_METHODS = names_where(lambda method: method.family is Family.DIRECT)
UNTRAINED_METHODS = names_where(lambda method: method.family is Family.UNTRAINED)

METRICS = {
    "method",
    "shape",
    "seconds",
    "adapt_seconds",
    "sample_seconds",
    "peak_memory_bytes",
    "device",
    "seed",
    "noise_level",
    "residual",
    "held_out_residual",
    "lora_shift",
    "adaptations",
    "adaptations_accepted",
    "psnr",
    "ssim",
    "stopped_early",
    "versions",
    "settings",
}
METHODS = methods_for("kspace")
CPU = torch.device("cpu")
# Of the settings of `tiny`, those that the engine chooses where a user sets nothing.
CHOSEN = {"start_t", "tv_weight", "wavelet_weight", "phase_constraint"}


@pytest.fixture
def tiny(tiny: dict[str, Any]) -> dict[str, Any]:
    """As for sinograms, but that a third of the lines is held out: of so few, 2 % are none."""
    few = {"start_iterations": 15, "final_admm_steps": 4}
    return {**tiny, **few, "held_out_fraction": 0.3, "wavelet_weight": 5e-3, "phase_constraint": 0.0}


@pytest.fixture
def mr_scan(make_mr_scan: Callable[..., Any]) -> Any:
    return make_mr_scan(size=16, centre=6)


@pytest.fixture
def radial_scan(make_mr_scan: Callable[..., Any], radial: Callable[[int, int], np.ndarray]) -> Any:
    """A scan along spokes of a slice, with enough of them for coil maps."""
    scan = make_mr_scan(slices=1, noise=0.0)
    trajectory = radial(30, 24)
    operator = NonCartesianSense(torch.from_numpy(scan.coil_maps), torch.from_numpy(trajectory))
    data = operator.forward(torch.from_numpy(scan.image)).numpy()
    real, imaginary = np.random.default_rng(2).normal(0, 0.01 / 2**0.5, (2, *data.shape))
    measurement = KSpace(data + real + 1j * imaginary, trajectory=trajectory, image_shape=(24, 24), source="spokes")
    return replace(scan, measurement=measurement)


def scan_coils(result: Reconstruction) -> int:
    assert result.coil_maps is not None
    return int(result.coil_maps.shape[1])


def error(result: Reconstruction, image: np.ndarray) -> float:
    """Relative error of the magnitude."""
    return float(np.linalg.norm(result.volume - np.abs(image)) / np.linalg.norm(image))


class TestResult:
    def test_its_maps_are_its_own(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        """What is done to them does not reach the next run, which takes the ones estimated here."""
        settings = Settings.create(tiny, method="sense")
        result = reconstruct(mr_scan.measurement, settings)
        assert result.coil_maps is not None
        result.coil_maps[...] *= 2
        again = reconstruct(mr_scan.measurement, settings)
        assert again.coil_maps is not None
        np.testing.assert_array_equal(again.volume, result.volume)
        assert not np.array_equal(again.coil_maps, result.coil_maps)

    @pytest.mark.parametrize("method", METHODS)
    def test_volume_metrics_and_history(self, mr_scan: Any, tiny: dict[str, Any], method: str) -> None:
        steps: list[Step] = []
        result = reconstruct(
            mr_scan.measurement,
            Settings.create(tiny, method=method),
            reference=np.abs(mr_scan.image),
            on_step=steps.append,
        )
        assert result.phase is not None
        assert result.coil_maps is not None
        assert result.volume.shape == result.phase.shape == (2, 16, 16)
        assert result.volume.dtype == result.phase.dtype == np.float32
        assert result.coil_maps.shape == (2, 4, 16, 16)
        assert result.coil_maps.dtype == np.complex64
        assert np.isfinite(result.volume).all()
        assert result.volume.min() >= 0
        assert np.abs(result.phase).max() <= np.pi + 1e-5
        assert result.measurement is mr_scan.measurement

        summary = result.summary()
        assert summary.keys() >= METRICS
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        assert (summary["method"], summary["shape"], summary["seed"]) == (method, [2, 16, 16], 0)
        assert (summary["sample_seconds"] > 0) == (method in DIFFUSION_METHODS)
        assert (summary["lora_shift"] is not None) == (method in ADAPTIVE_METHODS)
        assert (summary["adaptations"] > 0) == (method in ADAPTIVE_METHODS)
        assert summary["noise_level"] > 0
        assert summary["residual"] > 0
        assert (summary["held_out_residual"] is None) == (method in DIRECT_METHODS)
        assert np.isfinite(summary["psnr"])
        assert not summary["settings"]["nonnegative"]
        assert json.loads(json.dumps(result.history, allow_nan=False)) == result.history

        assert [entry["phase"] for entry in result.history] == [step.phase for step in steps]
        stopped_by_held_out = method in ("sense", *UNTRAINED_METHODS)
        assert stopped_by_held_out or steps[-1].index == steps[-1].total
        assert all(step.preview is not None and step.preview.shape == result.volume.shape for step in steps)
        # Beside direct ones every method goes on from its last step on all samples.
        last = steps[-1].preview
        is_last = last is not None and np.array_equal(last, result.volume)
        assert method in UNTRAINED_METHODS or is_last == (method in DIRECT_METHODS)

    def test_parts_of_the_image(self, mr_scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        result = reconstruct(mr_scan.measurement, Settings.create(tiny, method="sense"))
        image = result.image("complex")
        assert image.dtype == np.complex64
        np.testing.assert_allclose(np.abs(image), result.image(), rtol=1e-5)
        np.testing.assert_allclose(np.abs(image) * np.exp(1j * result.image("phase")), image, rtol=1e-5, atol=1e-6)
        result.save(tmp_path / "image.npy", part="complex")
        np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), image)
        for other in (replace(result, phase=None), result):
            with pytest.raises(D3IPError, match="part: "):
                other.save(tmp_path / "none.npy", part="phase" if other.phase is None else "real")  # type: ignore[arg-type]
        assert not (tmp_path / "none.npy").exists()

    @pytest.mark.parametrize("method", ["sense", "l1-wavelet", "tv", "dds", "d3ip"])
    def test_the_seed_decides(self, mr_scan: Any, tiny: dict[str, Any], method: str) -> None:
        volumes = []
        for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
            torch.manual_seed(global_seed)
            np.random.seed(global_seed)  # noqa: NPY002 - the generator that nothing may depend on
            # A measurement of its own: coil maps are made anew.
            measurement = replace(mr_scan.measurement)
            volumes.append(reconstruct(measurement, Settings.create(tiny, method=method, seed=seed)).volume)
        np.testing.assert_array_equal(volumes[0], volumes[1])
        assert not np.array_equal(volumes[0], volumes[2])  # The seed draws the held-out lines, too.

    @pytest.mark.parametrize("noise", [0.03, 0.1])
    @pytest.mark.parametrize("held_out_fraction", [0.0, 0.02])
    def test_sense_beats_zero_filled_and_regularisation_beats_sense(
        self, make_mr_scan: Callable[..., Any], noise: float, held_out_fraction: float
    ) -> None:
        scan = make_mr_scan(slices=2, size=32, step=3, centre=8, noise=noise)
        settings = Settings.create(iterations=30, device="cpu", held_out_fraction=held_out_fraction)
        errors = {
            method: error(reconstruct(scan.measurement, settings.updated(method=method)), scan.image)
            for method in ("zero-filled", "sense", "l1-wavelet", "tv")
        }
        assert errors["sense"] < 0.8 * errors["zero-filled"]
        assert errors["tv"] < 0.85 * errors["sense"]
        assert errors["l1-wavelet"] < 0.97 * errors["sense"]

    def test_sampling_from_every_start(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="dds", start_t=10, guard=False)
        errors = {
            start: error(reconstruct(mr_scan.measurement, settings.updated(start_from=start)), mr_scan.image)
            for start in ("tv", "cg", "fbp", "noise")
        }
        assert max(errors["tv"], errors["cg"], errors["fbp"]) < 0.5
        assert errors["fbp"] < errors["noise"] < np.inf

    def test_settings_come_back_resolved_and_repeat_the_run(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        fields = {
            name: value for name, value in tiny.items() if name not in ("start_t", "tv_weight", "phase_constraint")
        }
        first = reconstruct(mr_scan.measurement, Settings.create(fields, method="dds"))
        used = first.settings
        for name in ("start_t", "tv_weight", "proximal_weight", "phase_constraint"):
            assert getattr(used, name) is not None
        assert (used.nonnegative, used.planes) == (False, "axial")
        np.testing.assert_array_equal(reconstruct(mr_scan.measurement, used).volume, first.volume)

    def test_along_all_planes(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="dds", start_t=10, guard=False)
        all_planes, axial = (
            reconstruct(mr_scan.measurement, settings.updated(planes=planes)).volume for planes in ("all", "axial")
        )
        assert not np.array_equal(all_planes, axial)
        assert np.linalg.norm(all_planes - axial) < 0.3 * np.linalg.norm(all_planes)

    @pytest.mark.parametrize("method", ["dds", "d3ip"])
    def test_prior_of_two_channels(
        self, mr_scan: Any, tiny: dict[str, Any], complex_prior_folder: Path, method: str
    ) -> None:
        settings = Settings.create(tiny, method=method, prior=str(complex_prior_folder), start_t=10)
        result = reconstruct(mr_scan.measurement, settings)
        assert error(result, mr_scan.image) < 0.5
        assert (result.metrics["lora_shift"] is not None) == (method == "d3ip")

    @pytest.mark.parametrize("factor", [1e-6, 1024.0])
    @pytest.mark.parametrize("method", ["zero-filled", "sense", "l1-wavelet", "tv", "dds"])
    def test_scale_of_the_data(self, mr_scan: Any, tiny: dict[str, Any], method: str, factor: float) -> None:
        settings = Settings.create(tiny, **{"method": method, "tv_weight": None, "iterations": 5})
        scaled = replace(mr_scan.measurement, data=factor * mr_scan.measurement.data)
        one, other = reconstruct(mr_scan.measurement, settings), reconstruct(scaled, settings)
        assert np.linalg.norm(other.volume / factor - one.volume) <= 1e-3 * np.linalg.norm(one.volume)
        assert other.metrics["noise_level"] == pytest.approx(factor * one.metrics["noise_level"], rel=1e-3)
        assert other.metrics["residual"] == pytest.approx(one.metrics["residual"], rel=1e-2)

    @pytest.mark.parametrize("method", ["sense", "tv", "l1-wavelet", "dds"])
    def test_held_out_samples_are_fitted_last(self, mr_scan: Any, tiny: dict[str, Any], method: str) -> None:
        settings = Settings.create(tiny, method=method, noise_level=0.01, iterations=4)
        prepared = prepare(mr_scan.measurement, resolve(settings, mr_scan.measurement), CPU, Control().check)
        held_out = prepared.problem.held_out.numpy()
        changed = replace(mr_scan.measurement, data=mr_scan.measurement.data + 0.3 * held_out)
        one, other = reconstruct(mr_scan.measurement, settings), reconstruct(changed, settings)
        assert other.metrics["held_out_residual"] > one.metrics["held_out_residual"]
        fitted = [[entry["loss"] for entry in result.history if "loss" in entry] for result in (one, other)]
        assert fitted[0] == fitted[1]  # No step saw them,
        difference = one.residual() * held_out
        root_mean_square = float(np.sqrt(np.square(np.abs(difference)).sum() / (held_out.sum() * scan_coils(one))))
        assert root_mean_square < 0.8 * one.metrics["held_out_residual"]  # but what is returned did.

    @pytest.mark.parametrize("method", ["sense", "tv", "l1-wavelet", "mbir"])
    def test_fitting_all_samples_last_is_a_run_on_all_samples(self, mr_scan: Any, method: str) -> None:
        settings = Settings.create(method=method, device="cpu", phase_constraint=0.0)
        result = reconstruct(mr_scan.measurement, settings)
        weights = {name: getattr(result.settings, name) for name in ("tv_weight", "wavelet_weight")}
        given = {name: weight for name, weight in weights.items() if weight is not None}
        losses: list[Any] = [entry.get("held_out_loss") for entry in result.history]
        iterations = 1 + int(np.argmin(losses))
        given |= {"iterations": iterations, "noise_level": 1e-6} if method == "sense" else {}
        measurement = replace(mr_scan.measurement, coil_maps=result.coil_maps)  # They depend on the noise level.
        expected = reconstruct(measurement, settings.updated(held_out_fraction=0.0, **given))
        difference = np.linalg.norm(result.volume - expected.volume) / np.linalg.norm(expected.volume)
        assert difference < (1e-5 if method == "sense" else 0.02)


class TestPhase:
    @pytest.mark.parametrize("remove_phase", [True, False])
    @pytest.mark.parametrize("method", ["zero-filled", "sense"])
    def test_a_full_scan_without_noise_gives_the_image_back(
        self, make_mr_scan: Callable[..., Any], method: str, remove_phase: bool
    ) -> None:
        scan = make_mr_scan(step=1, noise=0.0)
        measurement = replace(scan.measurement, coil_maps=scan.coil_maps)
        result = reconstruct(
            measurement, method=method, remove_phase=remove_phase, device="cpu", held_out_fraction=0, noise_level=1e-4
        )
        np.testing.assert_allclose(result.volume, np.abs(scan.image), atol=1e-3)
        inside = np.abs(scan.image) > 0.1
        assert result.phase is not None
        np.testing.assert_allclose(
            np.exp(1j * result.phase[inside]), (scan.image / np.abs(scan.image).clip(1e-9))[inside], atol=2e-3
        )
        np.testing.assert_array_equal(result.coil_maps, scan.coil_maps)

    def test_maps_of_our_own_put_the_first_coils_phase_into_the_image(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(step=1, centre=24, noise=0.0)
        result = reconstruct(scan.measurement, method="sense", device="cpu", held_out_fraction=0, noise_level=1e-3)
        inside = np.abs(scan.image) > 0.1
        expected = scan.image * scan.coil_maps[:, 0]
        assert result.phase is not None
        assert result.coil_maps is not None
        off = np.exp(1j * (result.phase - np.angle(expected)))
        assert np.abs(off - 1)[inside].max() < 0.05
        # Image and maps together are what was measured.
        coil_images = result.coil_maps * (result.volume * np.exp(1j * result.phase))[:, None]
        truth = scan.coil_maps * scan.image[:, None]
        assert np.linalg.norm(coil_images - truth) < 0.05 * np.linalg.norm(truth)

    def test_removing_it_makes_the_image_nearly_real(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(centre=24, step=1, noise=0.0, phase=2.0)
        shares = []
        for remove in (True, False):
            settings = resolve(Settings.create(method="tv", remove_phase=remove), scan.measurement)
            prepared = prepare(scan.measurement, settings, CPU, Control().check)
            image = prepared.direct()
            shares.append(float(image.imag.square().sum() / image.abs().square().sum()))
            assert (prepared.phase is not None) == remove
        assert shares[0] < 0.02
        assert shares[1] > 0.1


class TestPreparation:
    def test_unit_norm_and_intensity(self, mr_scan: Any) -> None:
        scaled = replace(mr_scan.measurement, data=300 * mr_scan.measurement.data, coil_maps=5 * mr_scan.coil_maps)
        prepared = prepare(scaled, resolve(Settings.create(method="tv"), scaled), CPU, Control().check)
        largest = np.abs(mr_scan.image).max()
        assert prepared.intensity == pytest.approx(60 * largest, rel=0.1)
        assert prepared.problem.noise == pytest.approx(prepared.noise_level / (5 * prepared.intensity), rel=1e-4)
        image = torch.from_numpy(300 / 5 * mr_scan.image / prepared.intensity)
        if prepared.phase is not None:
            image = image * prepared.phase.conj()
        truth = replace(prepared.problem, noise=0.01 * 300 / (5 * prepared.intensity))
        assert truth.losses(image)[0] == pytest.approx(1, abs=0.1)

    def test_noise_as_set_as_the_file_says_or_estimated(self, mr_scan: Any) -> None:
        def level(measurement: KSpace, **fields: Any) -> float:
            settings = resolve(Settings.create(method="tv", **fields), measurement)
            return prepare(measurement, settings, CPU, Control().check).noise_level

        stated = replace(mr_scan.measurement, noise_level=0.02)
        assert level(stated, noise_level=0.07) == 0.07
        assert level(stated) == 0.02
        assert 0.01 <= level(mr_scan.measurement) < 0.05  # Signal at high frequencies counts as noise.

    def test_weights_predict_held_out_samples(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(slices=2, size=32, step=2, centre=8, noise=0.05)
        settings = resolve(Settings.create(method="tv", held_out_fraction=0.3), scan.measurement)
        problem = prepare(scan.measurement, settings, CPU, Control().check).problem
        for iterates in (tv_iterates, wavelet_iterates):
            weight = choose_weight(problem, iterates)

            def held_out(factor: float, weight: float = weight, iterates: Any = iterates) -> float:
                *_, volume = iterates(problem, factor * weight, 40)
                return float(problem.residual(volume, problem.held_out))

            chosen = held_out(1.0)
            assert chosen <= 1.01 * min(held_out(0.5), held_out(2.0))
            assert chosen < held_out(12.0)

    def test_more_than_24_coils_are_compressed(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(coils=26, step=3)
        result = reconstruct(scan.measurement, method="sense", device="cpu")
        assert result.coil_maps is not None
        assert result.coil_maps.shape == (2, 24, 24, 24)
        whole = reconstruct(scan.measurement, method="sense", device="cpu", virtual_coils=26)
        assert whole.coil_maps is not None
        assert whole.coil_maps.shape == (2, 26, 24, 24)
        assert np.linalg.norm(result.volume - whole.volume) < 0.03 * np.linalg.norm(whole.volume)

    def test_coil_maps_of_the_file_are_used(self, mr_scan: Any) -> None:
        # Twice as sensitive coils see an image half as bright.
        for factor in (1, 2):
            measurement = replace(mr_scan.measurement, coil_maps=factor * mr_scan.coil_maps)
            result = reconstruct(measurement, method="sense", device="cpu")
            np.testing.assert_array_equal(result.coil_maps, factor * mr_scan.coil_maps)
            inside = np.abs(mr_scan.image) > 0.3
            ratio = result.volume[inside] / np.abs(mr_scan.image)[inside]
            assert float(np.median(ratio)) == pytest.approx(1 / factor, rel=0.03)

    def test_the_first_reconstruction_hands_its_duals_on(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        for coupling, expected in (("tv3d", True), ("none", False)):
            settings = resolve(Settings.create(tiny, coupling=coupling), mr_scan.measurement)
            prepared = prepare(mr_scan.measurement, settings, CPU, Control().check)
            sampled = Regulariser(weight=2e-3 if expected else 0.0, nonnegative=False)
            volume, duals = first_reconstruction(
                prepared, replace(prepared.problem, regulariser=sampled, weights=Weights(tv=2e-3))
            )
            assert volume.is_complex()
            assert (duals is not None) == expected


class TestSettings:
    def test_paper_means_the_mri_values(self, mr_scan: Any) -> None:
        used = fill_in(Settings.create(preset="paper"), mr_scan.measurement)
        assert {name: getattr(used, name) for name in PAPER_MRI} == PAPER_MRI
        others = {name: value for name, value in PRESETS["paper"].items() if name not in PAPER_MRI}
        assert {name: getattr(used, name) for name in others} == others
        assert fill_in(used, mr_scan.measurement) == used

    def test_explicit_values_win_over_the_paper(self, mr_scan: Any) -> None:
        used = fill_in(Settings.create(preset="paper", adapt_steps=7, start_t=500), mr_scan.measurement)
        assert (used.adapt_steps, used.start_t, used.proximal_weight) == (7, 500, PAPER_MRI["proximal_weight"])

    @pytest.mark.parametrize("name", PAPER_MRI)
    def test_explicit_values_may_be_those_of_the_paper_for_ct(self, mr_scan: Any, name: str) -> None:
        of_ct = PRESETS["paper"][name]
        used = fill_in(Settings.create(preset="paper", **{name: of_ct}).updated(seed=1), mr_scan.measurement)
        assert {key: getattr(used, key) for key in PAPER_MRI} == {**PAPER_MRI, name: of_ct}

    def test_paper_runs(self, mr_scan: Any, tiny: dict[str, Any]) -> None:
        fields = {"preset": "paper", "prior": tiny["prior"], "device": "cpu", "steps": 2, "method": "d3ip"}
        result = reconstruct(mr_scan.measurement, Settings.create(fields))
        assert (result.settings.start_from, result.settings.start_t) == ("noise", 999)
        assert np.isfinite(result.volume).all()
        assert result.metrics["lora_shift"] > 0

    @pytest.mark.parametrize("method", ["fbp", "cg"])
    def test_methods_of_sinograms_are_refused(self, mr_scan: Any, method: str) -> None:
        message = f"^method: {method} does not reconstruct from k-space; choose zero-filled, sense, l1-wavelet, .*\\.$"
        with pytest.raises(SettingsError, match=message) as caught:
            reconstruct(mr_scan.measurement, method=method, device="cpu")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("method", ["zero-filled", "sense", "l1-wavelet"])
    def test_methods_of_kspace_are_refused_for_sinograms(self, scan: Any, method: str) -> None:
        with pytest.raises(SettingsError, match=f"^method: {method} does not .* a sinogram; choose fbp, cg, tv, "):
            reconstruct(scan.measurement, method=method, device="cpu")

    def test_prior_of_three_channels(self, mr_scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        config = PriorConfig(channels=3, patch_size=2)
        DiffusionPrior(build_unet(8, 2, 3, 16), linear_schedule(), config).save(tmp_path / "other")
        with pytest.raises(PriorError, match=r"^prior: .* must have 1 or 2 channels for complex images, got 3; "):
            reconstruct(mr_scan.measurement, Settings.create(tiny, prior=str(tmp_path / "other")))


def test_zero_filling_takes_every_sample(mr_scan: Any) -> None:
    settings = Settings(method="zero-filled", device="cpu")
    result = reconstruct(mr_scan.measurement, settings)
    for other in (settings.updated(seed=7), settings.updated(held_out_fraction=0.3)):
        np.testing.assert_allclose(reconstruct(mr_scan.measurement, other).volume, result.volume, atol=1e-6)
    assert result.metrics["held_out_residual"] is None
    maps = torch.tensor(result.coil_maps)
    exact = zero_filled(mr_scan.measurement, torch.tensor(mr_scan.measurement.data), maps).abs()
    np.testing.assert_allclose(result.volume, exact, rtol=1e-4, atol=1e-5)


class TestWithoutCentre:
    def test_is_a_sentence(self, make_mr_scan: Callable[..., Any]) -> None:
        measurement = make_mr_scan(step=3, centre=0).measurement
        with pytest.raises(MeasurementError, match=r"^coil_maps: .* no fully sampled centre .*\.$") as caught:
            reconstruct(measurement, method="sense", device="cpu")
        assert "\n" not in str(caught.value)

    def test_maps_of_the_file_do(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(step=2, centre=0)
        measurement = replace(scan.measurement, coil_maps=scan.coil_maps)
        assert error(reconstruct(measurement, method="sense", device="cpu"), scan.image) < 0.1

    def test_a_calibration_measured_apart_does(self, make_mr_scan: Callable[..., Any]) -> None:
        scan, full = make_mr_scan(step=2, centre=0), make_mr_scan(step=1)
        measurement = replace(scan.measurement, calibration=full.measurement.data[..., 4:20, 4:20])
        assert error(reconstruct(measurement, method="sense", device="cpu"), scan.image) < 0.1


class TestAlongATrajectory:
    @pytest.mark.parametrize("method", ["zero-filled", "sense", "tv"])
    def test_end_to_end(self, radial_scan: Any, tiny: dict[str, Any], method: str) -> None:
        settings = Settings.create(tiny, method=method, iterations=10, held_out_fraction=0.1)
        result = reconstruct(radial_scan.measurement, settings, reference=np.abs(radial_scan.image))
        assert result.volume.shape == (1, 24, 24)
        assert error(result, radial_scan.image) < {"zero-filled": 0.3, "sense": 0.12, "tv": 0.12}[method]
        assert (result.metrics["held_out_residual"] is None) == (method in DIRECT_METHODS)
        assert 0.01 < result.metrics["noise_level"] < 0.05  # Signal at high frequencies counts as noise.

    def test_adapts(self, radial_scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="d3ip", start_t=10, held_out_fraction=0.1)
        result = reconstruct(radial_scan.measurement, settings)
        assert result.metrics["adaptations"] == 2
        assert error(result, radial_scan.image) < 0.5


class TestCheckpoint:
    def test_resumed_run_gives_the_same_volume(self, mr_scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        fields = {"method": "d3ip", "steps": 3, "tv_weight": None, "phase_constraint": None}
        settings = Settings.create(tiny, **fields)
        whole = reconstruct(mr_scan.measurement, settings)
        checkpoint = tmp_path / "run.pt"
        self.interrupt(mr_scan.measurement, settings, checkpoint)
        # As in another session: the scan read again.
        again = replace(mr_scan.measurement, source="moved")
        steps: list[Step] = []
        resumed = reconstruct(again, settings, checkpoint=checkpoint, resume=True, on_step=steps.append)
        assert [step.phase for step in steps].count("sampling") == 2
        np.testing.assert_array_equal(resumed.volume, whole.volume)
        np.testing.assert_array_equal(resumed.phase, whole.phase)

    @staticmethod
    def interrupt(measurement: KSpace, settings: Settings, checkpoint: Path) -> None:
        """Stop after the first sampling step."""
        steps = iter_reconstruct(measurement, settings, checkpoint=checkpoint)
        while next(steps).phase != "sampling":
            pass
        steps.close()

    def test_of_another_scan_is_refused(self, mr_scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        settings, checkpoint = Settings.create(tiny, method="dds"), tmp_path / "run.pt"
        self.interrupt(mr_scan.measurement, settings, checkpoint)
        mask = mr_scan.measurement.mask.copy()
        mask[0, 0] = False
        others = {
            "data": 2 * mr_scan.measurement.data,
            "mask": mask,
            "coil_maps": mr_scan.coil_maps,
            "calibration": mr_scan.measurement.data[..., 4:12, 4:12],
            "noise_level": 0.02,
        }
        for name, value in others.items():
            changed = replace(mr_scan.measurement, **{name: value})
            with pytest.raises(FileError, match=r"^resume: .* was written for another scan or other settings"):
                reconstruct(changed, settings, checkpoint=checkpoint, resume=True)


class TestComplexNoise:
    @pytest.mark.parametrize("correlation", [0.0, 0.9])
    def test_each_part_has_unit_variance(self, correlation: float) -> None:
        like = torch.empty((40, 32, 32), dtype=torch.complex64)
        noise = correlated_noise(like, correlation, torch.Generator().manual_seed(0))
        assert noise.dtype == torch.complex64
        for part in (noise.real, noise.imag):
            assert float(part.var()) == pytest.approx(1, abs=0.08)
            assert float((part[1:] * part[:-1]).mean()) == pytest.approx(correlation, abs=0.08)
        assert float((noise.real * noise.imag).mean()) == pytest.approx(0, abs=0.03)

    def test_the_seed_decides(self) -> None:
        like = torch.empty((2, 4, 4), dtype=torch.complex64)
        first, again, other = (white_noise(like, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
