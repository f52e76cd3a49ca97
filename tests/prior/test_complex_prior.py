"""Priors of complex images: of two channels or of one, their phantoms and their training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.generators import phantoms_of
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.losses import epsilon_loss
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.phantoms import ComplexPhantoms, EllipsePhantoms, MixedPhantoms
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.prior.train import train
from napari_d3ip.prior.training_settings import Intervals, TrainingSettings

SMALL = TrainingSettings(steps=2, batch=2, size=16, width=8, warmup=1, ema=0.5)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1, 2])
def bare(request: pytest.FixtureRequest, prior_folder: Path, complex_prior_folder: Path) -> DiffusionPrior:
    return load_prior(prior_folder if request.param == 1 else complex_prior_folder)


class TestComplexPrior:
    def test_normalise_and_back(self, bare: DiffusionPrior) -> None:
        prior, image = ComplexPrior(bare), random(3, 5, 5)
        torch.testing.assert_close(prior.denormalise(prior.normalise(image)), image)

    @pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3.0, 2.0)])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_the_real_part_is_normalised_as_a_real_image(self, channels: int, low: float, high: float) -> None:
        config = PriorConfig(channels=channels, low=low, high=high)
        bare = DiffusionPrior(build_unet(8, 1, channels, 16), linear_schedule(), config)
        prior, image = ComplexPrior(bare), torch.rand((2, 4, 4))
        found = prior.normalise(image + 0j)
        torch.testing.assert_close(found.real, bare.normalise(image))
        # An imaginary part of 0 is intensity 0.5 for a prior of real images, which knows of no negative ones.
        zero = torch.tensor(0.5 if channels == 1 else 0.0)
        torch.testing.assert_close(found.imag, bare.normalise(zero).expand(2, 4, 4))
        torch.testing.assert_close(prior.denormalise(prior.normalise(1j * image)), 1j * image)

    @pytest.mark.parametrize("shape", [(16, 16), (17, 11)])
    @pytest.mark.parametrize("t", [3, torch.tensor([3, 300])], ids=["one time", "times"])
    def test_two_channels_are_the_parts(
        self, complex_prior_folder: Path, shape: tuple[int, int], t: int | Tensor
    ) -> None:
        bare, noisy = load_prior(complex_prior_folder), random(2, 1, *shape)
        found = ComplexPrior(bare).epsilon(noisy, t)
        expected = bare.epsilon(torch.cat((noisy.real, noisy.imag), dim=1), t)
        assert found.shape == noisy.shape
        torch.testing.assert_close(found[:, 0].real, expected[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(found[:, 0].imag, expected[:, 1], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("shape", [(16, 16), (17, 11)])
    def test_one_channel_sees_the_parts_one_by_one(self, prior: DiffusionPrior, shape: tuple[int, int]) -> None:
        noisy = random(3, 1, *shape)
        found = ComplexPrior(prior).epsilon(noisy, 200)
        assert found.shape == noisy.shape
        torch.testing.assert_close(found.real, prior.epsilon(noisy.real, 200), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.imag, prior.epsilon(noisy.imag, 200), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("t", [0, 30, 300, 980])
    def test_tweedie_undoes_noising(self, bare: DiffusionPrior, t: int) -> None:
        prior, image, noise = ComplexPrior(bare), random(2, 8, 8), random(2, 8, 8, seed=1)
        alpha_bar = prior.alphas_cumprod[t]
        noisy = alpha_bar.sqrt() * prior.normalise(image) + (1 - alpha_bar).sqrt() * noise
        torch.testing.assert_close(prior.tweedie(noisy, noise, t), image, rtol=0, atol=1e-3)

    def test_gradient_flows_to_the_image(self, bare: DiffusionPrior) -> None:
        noisy = random(1, 1, 16, 16).requires_grad_()
        ComplexPrior(bare).epsilon(noisy, 100).abs().square().sum().backward()
        assert noisy.grad is not None
        assert noisy.grad.real.any()
        assert noisy.grad.imag.any()

    def test_is_that_prior(self, bare: DiffusionPrior) -> None:
        prior = ComplexPrior(bare)
        assert prior.unet is bare.unet
        assert (prior.name, prior.config, prior.train_steps) == (bare.name, bare.config, bare.train_steps)
        bare.train()
        prior.eval()
        assert not bare.training

    def test_three_channels_are_a_sentence(self) -> None:
        config = PriorConfig(channels=3)
        bare = DiffusionPrior(build_unet(8, 1, 3, 16), linear_schedule(), config, name="colourful")
        with pytest.raises(
            PriorError, match=r"^prior: colourful must have 1 or 2 channels .*, got 3; .*\.$"
        ) as caught:
            ComplexPrior(bare)
        assert "\n" not in str(caught.value)


class TestComplexPhantoms:
    def test_shape_and_range(self) -> None:
        images = ComplexPhantoms(32).draw(12, torch.Generator().manual_seed(0))
        assert images.shape == (12, 2, 32, 32)
        assert images.dtype == torch.float32
        magnitude = torch.linalg.vector_norm(images, dim=1)
        assert float(magnitude.max()) <= 1 + 1e-5
        assert (magnitude.amax(dim=(1, 2)) > 0.3).all()
        assert float(images.min()) < -0.2

    def test_magnitudes_are_ellipse_phantoms(self) -> None:
        magnitude = torch.linalg.vector_norm(ComplexPhantoms(32).draw(4, torch.Generator().manual_seed(3)), dim=1)
        expected = EllipsePhantoms(32).draw(4, torch.Generator().manual_seed(3))[:, 0]
        torch.testing.assert_close(magnitude, expected, rtol=0, atol=1e-5)

    def test_phase_is_smooth_and_any(self) -> None:
        phantoms = ComplexPhantoms(64)
        parts = phantoms.draw(32, torch.Generator().manual_seed(0))
        images = torch.complex(parts[:, 0], parts[:, 1])
        # Each of four waves turns by at most its amplitude times 2 pi max_waves sqrt(2) per image.
        steepest = 4 * phantoms.largest_amplitude * 2 * torch.pi * phantoms.max_waves / 63
        for axis in (1, 2):
            near, far = (images.narrow(axis, start, 63) for start in (0, 1))
            turned = (far * near.conj())[(near.abs() > 0.05) & (far.abs() > 0.05)].angle().abs()
            assert float(turned.max()) <= steepest + 1e-3
            assert float(turned.median()) < 0.1
        mean = images.sum(dim=(1, 2)).angle()
        assert float(mean.max() - mean.min()) > 5  # Of two pi.

    def test_some_phases_are_nearly_flat_and_others_are_not(self) -> None:
        parts = ComplexPhantoms(32).draw(48, torch.Generator().manual_seed(1))
        images = torch.complex(parts[:, 0], parts[:, 1])
        aligned = images.sum(dim=(1, 2)).abs() / images.abs().sum(dim=(1, 2))
        assert float(aligned.max()) > 0.999
        assert float(aligned.min()) < 0.8

    def test_depend_on_the_seed_only(self) -> None:
        first = ComplexPhantoms(16).draw(4, torch.Generator().manual_seed(7))
        torch.manual_seed(99)
        torch.testing.assert_close(first, ComplexPhantoms(16).draw(4, torch.Generator().manual_seed(7)))
        assert not torch.equal(first, ComplexPhantoms(16).draw(4, torch.Generator().manual_seed(8)))

    def test_of_channels(self) -> None:
        assert phantoms_of("ellipses", 1, 24) == EllipsePhantoms(24)
        assert phantoms_of("mixed", 1, 24) == MixedPhantoms(24)
        assert phantoms_of("mixed", 2, 24) == ComplexPhantoms(24, MixedPhantoms(24))


class TestTraining:
    @staticmethod
    def run(folder: Path, settings: TrainingSettings, initial: DiffusionPrior | None = None) -> DiffusionPrior:
        list(train(folder, settings, initial=initial, every=Intervals(2, 500, 4)))
        return load_prior(folder)

    def test_two_channels(self, tmp_path: Path) -> None:
        prior = self.run(tmp_path / "complex", replace(SMALL, channels=2))
        assert prior.config == PriorConfig(channels=2, patch_size=2, low=0.0)
        assert prior.unet.config.in_channels == prior.unet.config.out_channels == 8
        assert torch.isfinite(ComplexPrior(prior).epsilon(random(1, 1, 16, 16), 100).abs()).all()

    def test_a_prior_of_real_images_starts_one_of_complex_ones(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        # So slow that nothing moves but for the half precision of the file.
        settings = replace(SMALL, channels=2, learning_rate=1e-9)
        found = self.run(tmp_path / "complex", settings, prior).unet.state_dict()
        given, fresh = prior.unet.state_dict(), self.run(tmp_path / "other", settings).unet.state_dict()
        widened = {"conv_in.weight", "conv_out.weight", "conv_out.bias"}
        assert found.keys() == given.keys()
        for name, weight in given.items():
            kept = found[name]
            if name in widened:
                assert kept.shape != weight.shape
                kept = kept[tuple(slice(0, length) for length in weight.shape)]
            else:
                assert kept.shape == weight.shape
            torch.testing.assert_close(kept, weight, rtol=1e-3, atol=1e-4)
        # What is new starts as in an untrained network.
        torch.testing.assert_close(found["conv_in.weight"][:, 4:], fresh["conv_in.weight"][:, 4:], rtol=0, atol=1e-4)
        assert not torch.allclose(found["conv_in.weight"][:, :4], fresh["conv_in.weight"][:, :4], atol=1e-2)

    def test_the_start_must_be_the_same_network(self, tmp_path: Path) -> None:
        other = DiffusionPrior(build_unet(16, 2, 1, 16), linear_schedule(), PriorConfig(patch_size=2), name="wider")
        with pytest.raises(PriorError, match=r"^wider holds another network; give the same width and patch size\.$"):
            self.run(tmp_path / "complex", replace(SMALL, channels=2), other)


class TestTimePower:
    class Recorder(torch.nn.Module):
        """A network that notes the times and predicts nothing."""

        config = build_unet(8, 1, 1, 16).config

        def __init__(self) -> None:
            super().__init__()
            self.times: list[Tensor] = []

        def forward(self, x: Tensor, timestep: Tensor, return_dict: bool) -> tuple[Tensor]:
            self.times.append(timestep)
            return (torch.zeros_like(x),)

    def times(self, power: float, total: int = 1000) -> Tensor:
        network = self.Recorder()
        prior = DiffusionPrior(network, linear_schedule(total), PriorConfig())
        generator = torch.Generator().manual_seed(0)
        for _ in range(30):
            epsilon_loss(prior, torch.rand((8, 1, 4, 4)), generator, power)
        return torch.cat(network.times)

    def test_one_is_uniform(self) -> None:
        times = self.times(1.0).double() / 1000
        assert float(times.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(times.quantile(0.25)) == pytest.approx(0.25, abs=0.03)

    @pytest.mark.parametrize("power", [2.0, 3.0])
    def test_larger_powers_visit_small_times(self, power: float) -> None:
        times = self.times(power).double() / 1000
        # u ** p has the mean 1 / (p + 1) and the quantiles q ** p.
        assert float(times.mean()) == pytest.approx(1 / (power + 1), abs=0.02)
        assert float(times.median()) == pytest.approx(0.5**power, abs=0.03)

    @pytest.mark.parametrize("power", [1.0, 2.0])
    def test_stay_inside_a_short_schedule(self, power: float) -> None:
        times = self.times(power, 3)
        assert set(times.tolist()) == {0, 1, 2}

    def test_the_default_is_uniform(self, prior: DiffusionPrior) -> None:
        image = torch.rand((4, 1, 16, 16))
        default, one, two = (
            float(epsilon_loss(prior, image, torch.Generator().manual_seed(0), *power))
            for power in ((), (1.0,), (2.0,))
        )
        assert default == one
        assert default != two
