"""The prior: schedule identities, images of any size, weight files, and the phantoms it is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.network import (
    CONFIG_NAME,
    DiffusionPrior,
    PriorConfig,
    build_unet,
    linear_schedule,
    load_prior,
)
from napari_d3ip.prior.phantoms import EllipsePhantoms


class TestSchedule:
    def test_is_that_of_diffusers(self) -> None:
        from diffusers import DDPMScheduler

        expected = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
        torch.testing.assert_close(linear_schedule(), expected, rtol=1e-5, atol=1e-9)

    def test_falls_from_nearly_one_to_nearly_zero(self) -> None:
        alpha_bar = linear_schedule()
        assert (torch.diff(alpha_bar) < 0).all()
        assert float(alpha_bar[0]) == pytest.approx(1 - 1e-4)
        assert 0 < float(alpha_bar[-1]) < 1e-4

    @pytest.mark.parametrize("t", [0, 30, 300, 980])
    def test_tweedie_undoes_noising(self, prior: DiffusionPrior, t: int) -> None:
        image, noise = torch.rand((2, 16, 16)), torch.randn((2, 16, 16))
        alpha_bar = prior.alphas_cumprod[t]
        noisy = alpha_bar.sqrt() * prior.normalise(image) + (1 - alpha_bar).sqrt() * noise
        torch.testing.assert_close(prior.tweedie(noisy, noise, t), image, rtol=0, atol=2e-4)

    @pytest.mark.parametrize("config", [PriorConfig(), PriorConfig(low=0.0, high=2.0), PriorConfig(low=-3.0)])
    def test_normalise_and_back(self, config: PriorConfig) -> None:
        prior = DiffusionPrior(build_unet(8, 1, 1, 16), linear_schedule(), config)
        image = torch.linspace(-0.5, 1.5, 20)
        torch.testing.assert_close(prior.denormalise(prior.normalise(image)), image)
        ends = prior.normalise(torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(ends, torch.tensor([config.low, config.high]))


class TestNetwork:
    @pytest.mark.parametrize("shape", [(16, 16), (17, 16), (15, 23), (5, 40), (3, 3), (1, 1), (64, 8)])
    def test_takes_any_size(self, prior: DiffusionPrior, shape: tuple[int, int]) -> None:
        noisy = torch.randn((2, 1, *shape))
        predicted = prior.epsilon(noisy, 100)
        assert predicted.shape == noisy.shape
        assert torch.isfinite(predicted).all()

    def test_padding_is_reflection_cut_off_again(self, prior: DiffusionPrior) -> None:
        image = torch.randn((1, 1, 21, 19))
        padded = torch.nn.functional.pad(image, (0, 5, 0, 3), mode="reflect")
        torch.testing.assert_close(prior.epsilon(image, 100), prior.epsilon(padded, 100)[..., :21, :19])

    def test_patches_fold_and_unfold_in_place(self) -> None:
        class Copy(torch.nn.Module):
            config = build_unet(8, 1, 1, 16).config

            def forward(self, x: torch.Tensor, timestep: int, return_dict: bool) -> tuple[torch.Tensor]:
                return (x,)

        prior = DiffusionPrior(Copy(), linear_schedule(), PriorConfig(patch_size=2))
        noisy = torch.randn((2, 1, 13, 22))
        torch.testing.assert_close(prior.epsilon(noisy, 5), noisy, rtol=0, atol=0)

    def test_one_time_for_all_or_one_each(self, prior: DiffusionPrior) -> None:
        noisy = torch.randn((3, 1, 16, 16))
        torch.testing.assert_close(prior.epsilon(noisy, 70), prior.epsilon(noisy, torch.full((3,), 70)))
        mixed = prior.epsilon(noisy, torch.tensor([70, 300, 900]))
        torch.testing.assert_close(mixed[1:2], prior.epsilon(noisy[1:2], 300), rtol=1e-4, atol=1e-5)


class TestFiles:
    def test_round_trip_without_loss(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        noisy = torch.randn((1, 1, 16, 16))
        prior.save(tmp_path / "copy", half=False)
        again = load_prior(tmp_path / "copy")
        torch.testing.assert_close(again.epsilon(noisy, 200), prior.epsilon(noisy, 200), rtol=0, atol=0)
        assert again.config == prior.config
        torch.testing.assert_close(again.alphas_cumprod, prior.alphas_cumprod, rtol=1e-4, atol=1e-7)

    def test_half_precision_file_loads_in_single(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        noisy = torch.randn((1, 1, 16, 16))
        prior.save(tmp_path / "half")
        again = load_prior(tmp_path / "half")
        assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
        assert {parameter.dtype for parameter in prior.parameters()} == {torch.float32}
        torch.testing.assert_close(again.epsilon(noisy, 200), prior.epsilon(noisy, 200), rtol=0, atol=1e-2)

    def test_loads_for_inference(self, prior: DiffusionPrior) -> None:
        assert not prior.training
        assert not any(parameter.requires_grad for parameter in prior.parameters())

    @pytest.mark.gpu
    def test_saves_from_cuda(self, prior_folder: Path, tmp_path: Path) -> None:
        load_prior(prior_folder, "cuda").save(tmp_path / "copy", half=False)
        again = load_prior(tmp_path / "copy")
        torch.testing.assert_close(again.alphas_cumprod, linear_schedule(), rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda folder: (folder / "model_index.json").unlink(), id="no pipeline"),
            pytest.param(lambda folder: _weights(folder).unlink(), id="no weights"),
            pytest.param(lambda folder: _weights(folder).write_bytes(b""), id="empty weights"),
            pytest.param(
                lambda folder: _weights(folder).write_bytes(_weights(folder).read_bytes()[:2000]), id="cut weights"
            ),
            pytest.param(lambda folder: (folder / "unet" / "config.json").write_text("{"), id="broken config"),
            pytest.param(lambda folder: (folder / CONFIG_NAME).write_text("[1"), id="broken own config"),
            pytest.param(lambda folder: (folder / CONFIG_NAME).write_text('{"color": 3}'), id="unknown own field"),
            pytest.param(lambda folder: _edit(folder, "unet", "block_out_channels", [16, 32, 48]), id="other network"),
            pytest.param(lambda folder: _edit(folder, "scheduler", "prediction_type", "sample"), id="not epsilon"),
        ],
    )
    def test_what_does_not_load_says_so_in_a_sentence(
        self, prior: DiffusionPrior, tmp_path: Path, damage: object
    ) -> None:
        prior.save(tmp_path / "copy")
        assert callable(damage)
        damage(tmp_path / "copy")
        with pytest.raises(PriorError, match=r"^prior: .*copy.*\.$") as caught:
            load_prior(tmp_path / "copy")
        assert "\n" not in str(caught.value)

    def test_unknown_name(self) -> None:
        with pytest.raises(PriorError, match=r"^prior: 'nowhere' is neither a shipped prior .*; give one of these\.$"):
            load_prior("nowhere")


def _weights(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def _edit(folder: Path, part: str, key: str, value: object) -> None:
    path = folder / part / ("config.json" if part == "unet" else "scheduler_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


class TestPhantoms:
    def test_range_shape_and_content(self) -> None:
        images = EllipsePhantoms(32, max_ellipses=20).draw(24, torch.Generator().manual_seed(0))
        assert images.shape == (24, 1, 32, 32)
        assert images.dtype == torch.float32
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        assert (images.amax(dim=(1, 2, 3)) > 0.3).all()
        assert (images.std(dim=(1, 2, 3)) > 0.01).all()

    def test_depend_on_the_seed_only(self) -> None:
        phantoms = EllipsePhantoms(16)
        first = phantoms.draw(4, torch.Generator().manual_seed(7))
        torch.manual_seed(99)
        torch.testing.assert_close(first, phantoms.draw(4, torch.Generator().manual_seed(7)), rtol=0, atol=0)
        assert not torch.equal(first, phantoms.draw(4, torch.Generator().manual_seed(8)))

    @pytest.mark.gpu
    def test_do_not_depend_on_the_device(self) -> None:
        phantoms = EllipsePhantoms(32)
        on_cpu = phantoms.draw(8, torch.Generator().manual_seed(7))
        on_cuda = phantoms.draw(8, torch.Generator().manual_seed(7), "cuda")
        torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=0, atol=1e-3)

    def test_edges_are_anti_aliased(self) -> None:
        """The same phantoms at twice the resolution, binned, are those of the coarse grid, edges included."""
        coarse = EllipsePhantoms(64, max_ellipses=6).draw(16, torch.Generator().manual_seed(1))
        fine = EllipsePhantoms(128, max_ellipses=6).draw(16, torch.Generator().manual_seed(1))
        difference = (torch.nn.functional.avg_pool2d(fine, 2) - coarse).abs()
        # Half of the image mean would be a shift by a pixel; hard edges differ by up to their contrast.
        assert float(difference.mean()) < 0.02
        steps = torch.diff(coarse, dim=-1).abs().flatten()
        partial = (steps > 0.01) & (steps < 0.2)
        assert int(partial.sum()) > int((steps >= 0.2).sum())
