"""The prior: schedule identities, images of any size, weight files, and the phantoms it is trained on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_d3ip.device import enough_memory
from napari_d3ip.errors import DeviceError, PriorError
from napari_d3ip.prior import library
from napari_d3ip.prior.description import describe_prior, draw_samples
from napari_d3ip.prior.grey import GreyPrior
from napari_d3ip.prior.library import find_prior
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import CONFIG_NAME, DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.phantoms import EllipsePhantoms
from napari_d3ip.prior.schedules import cosine_schedule, linear_schedule, schedule_name

# Folder, field and value of a configuration that no prior has.
UNUSABLE: list[tuple[str | None, str, Any]] = [
    *(("unet", "layers_per_block", value) for value in (100_000, 0, -1, 1.5)),
    ("unet", "block_out_channels", []),
    ("unet", "block_out_channels", None),
    ("unet", "block_out_channels", [8192] * 3),
    *(("unet", name, 0) for name in ("norm_num_groups", "attention_head_dim", "in_channels")),
    ("unet", "norm_eps", "x"),
    ("unet", "dropout", float("nan")),
    ("unet", "sample_size", "x"),
    *(("scheduler", "num_train_timesteps", value) for value in (0, 10**9, "x")),
    *(("scheduler", "beta_end", value) for value in (2.0, "x")),
    *(("scheduler", "trained_betas", value) for value in ([0.0] * 1000, [0.1])),
    ("scheduler", "rescale_betas_zero_snr", True),
    (None, "unet", ["a"]),
    (None, "unet", {}),
    (None, "unet", 3),
]


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
            *(
                pytest.param(lambda folder, text=text: (folder / CONFIG_NAME).write_text(text), id=text)
                for text in ('{"patch_size": 0}', '{"patch_size": 4}', '{"channels": 3}', '{"low": "a"}', '{"low": 9}')
            ),
            pytest.param(lambda folder: _edit(folder, "unet", "block_out_channels", [16, 32, 48]), id="other network"),
            pytest.param(lambda folder: _edit(folder, "scheduler", "prediction_type", "sample"), id="not epsilon"),
            pytest.param(lambda folder: _edit(folder, "unet", "num_class_embeds", 3), id="classes"),
            pytest.param(lambda folder: _edit(folder, None, "vqvae", ["diffusers", "VQModel"]), id="latent"),
            pytest.param(lambda folder: _edit(folder, None, "unet", ["x", "UNet2DConditionModel"]), id="conditional"),
            pytest.param(lambda folder: (folder / "model_index.json").write_text("[]"), id="no mapping"),
            *(
                pytest.param(
                    lambda folder, part=part, name=name, value=value: _edit(folder, part, name, value),
                    id=f"{name} {str(value)[:12]}",
                )
                for part, name, value in UNUSABLE
            ),
            *(
                pytest.param(lambda folder, text=text: (folder / CONFIG_NAME).write_text(text), id=text)
                for text in (
                    *('{"high": Infinity, "patch_size": 2}', '{"low": NaN, "patch_size": 2}', '{"low": true}'),
                    *('{"attention_heads": 0, "patch_size": 2}', '{"attention_heads": 7, "patch_size": 2}'),
                    *('{"patch_size": 2.0}', '{"low": -1e300, "patch_size": 2}', "[" * 100_000),
                )
            ),
            *(
                pytest.param(lambda folder, change=change: _reweight(folder, change), id=name)
                for name, change in (
                    ("NaN", lambda weights: weights["conv_in.weight"].view(-1)[3:4].fill_(float("nan"))),
                    ("infinite", lambda weights: weights["conv_in.weight"].view(-1)[3:4].fill_(float("inf"))),
                    ("enormous", lambda weights: weights.update({"conv_out.weight": torch.full((4, 8, 3, 3), 3e38)})),
                    ("one missing", lambda weights: weights.pop("conv_in.weight")),
                    ("none", lambda weights: [weights.pop(name) for name in list(weights)[1:]]),
                    ("integers", lambda weights: weights.update({n: w.to(torch.int8) for n, w in weights.items()})),
                )
            ),
            *(
                pytest.param(lambda folder, place=place: _pipe(folder / place), id=f"pipe {place}")
                for place in ("unet/config.json", CONFIG_NAME, "unet/diffusion_pytorch_model.safetensors")
            ),
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

    @pytest.mark.parametrize("name", ["nowhere", "a--b/c", "priors/mine-", "long" * 2000])
    def test_unknown_name(self, name: str) -> None:
        with pytest.raises(PriorError, match=r"^prior: '.*; give one of these\.$") as caught:
            load_prior(name)
        assert "' is neither a shipped prior " in str(caught.value) or len(name) > 500


def _weights(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def _edit(folder: Path, part: str | None, key: str, value: object) -> None:
    files = {"unet": "unet/config.json", "scheduler": "scheduler/scheduler_config.json", None: "model_index.json"}
    path = folder / files[part]
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def _flip(path: Path, at: int, bit: int) -> None:
    """Flip a bit, counted from the end of a file."""
    content = bytearray(path.read_bytes())
    content[-at] ^= 1 << bit
    path.write_bytes(content)


class TestDigest:
    """Of the weights, in the record beside them."""

    @pytest.mark.parametrize(("at", "bit"), [(1, 0), (2, 3), (1001, 7)])
    def test_a_flipped_bit_is_noticed(self, prior: DiffusionPrior, tmp_path: Path, at: int, bit: int) -> None:
        prior.save(tmp_path / "own")
        load_prior(tmp_path / "own")
        _flip(_weights(tmp_path / "own"), at, bit)
        with pytest.raises(PriorError, match=r"own are damaged or were changed .* weights_sha256 .*\.$"):
            load_prior(tmp_path / "own")
        record = json.loads((tmp_path / "own" / "d3ip_prior.json").read_text())
        assert len(record.pop("weights_sha256")) == 64
        (tmp_path / "own" / "d3ip_prior.json").write_text(json.dumps(record))
        load_prior(tmp_path / "own")  # Of earlier versions there is none to hold them against.

    @pytest.mark.parametrize("name", ["phantom"])
    def test_shipped_priors_have_one(self, name: str) -> None:
        folder = find_prior(name)
        record = json.loads((folder / "d3ip_prior.json").read_text())
        assert record["weights_sha256"] == hashlib.sha256(_weights(folder).read_bytes()).hexdigest()
        assert load_prior(name).name == name


class TestPlaces:
    """Where priors are found beside the package."""

    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A hub cache with the model someone/blobs, whose folder is returned."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        model = tmp_path / "hub" / "models--someone--blobs"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        return model / "snapshots" / ("0" * 40)

    @pytest.mark.parametrize("pipeline", ["DDPM", "DDIM"])
    @pytest.mark.parametrize("flat", [False, True])
    def test_cached_hub_model(self, prior: DiffusionPrior, cache: Path, pipeline: str, flat: bool) -> None:
        import diffusers

        unet = build_unet(8, 1, 3, 16)
        scheduler = getattr(diffusers, f"{pipeline}Scheduler")(beta_schedule="squaredcos_cap_v2")
        getattr(diffusers, f"{pipeline}Pipeline")(unet, scheduler).save_pretrained(cache)
        if flat:
            for part in ("unet", "scheduler"):
                for path in list((cache / part).iterdir()):
                    path.rename(cache / path.name)
                (cache / part).rmdir()
        loaded = load_prior("someone/blobs")
        assert loaded.config == PriorConfig(channels=3)
        assert loaded.name == "someone/blobs"
        noisy = torch.randn((1, 3, 16, 16))
        torch.testing.assert_close(loaded.epsilon(noisy, 5), unet.eval()(noisy, 5).sample)
        torch.testing.assert_close(loaded.alphas_cumprod, cosine_schedule())

    def test_weights_of_tensors_only(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        """Older hub models have no safetensors file; theirs is read without unpickling."""
        prior.save(tmp_path / "old", half=False)
        _weights(tmp_path / "old").unlink()
        torch.save(prior.unet.state_dict(), tmp_path / "old" / "unet" / "diffusion_pytorch_model.bin")
        noisy = torch.randn((1, 1, 16, 16))
        torch.testing.assert_close(load_prior(tmp_path / "old").epsilon(noisy, 7), prior.epsilon(noisy, 7))

    def test_nothing_else_is_unpickled(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        prior.save(tmp_path / "old")
        _weights(tmp_path / "old").unlink()
        torch.save({"model": Path}, tmp_path / "old" / "unet" / "diffusion_pytorch_model.bin")
        with pytest.raises(PriorError, match=r"^prior: .*old cannot be loaded .*\.$"):
            load_prior(tmp_path / "old")

    @pytest.mark.usefixtures("cache")
    def test_hub_model_that_is_not_cached(self) -> None:
        with pytest.raises(PriorError, match=r"^prior: 'someone/else' .* local cache .*nothing is downloaded here"):
            load_prior("someone/else")

    def test_installed(self, prior: DiffusionPrior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "user_data_path", lambda *_, **__: tmp_path)
        assert library.installed_path("mine") == tmp_path / "priors" / "mine"
        assert library.installed_path("./mine") == Path("mine")
        prior.save(library.installed_path("mine"))
        assert {"mine", "phantom"} <= set(library.available_priors())
        assert load_prior("mine").name == "mine"

    def test_name_of_a_shipped_prior_is_taken(self) -> None:
        with pytest.raises(PriorError, match=r"^prior: 'phantom' is a shipped prior; choose another name"):
            library.installed_path("phantom")


class _Optimal(torch.nn.Module):
    """Best predictor of the noise in images of independent grey pixels, normal with mean 0.2 and deviation 0.5."""

    mean, variance = 0.2, 0.25
    config = build_unet(8, 1, 3, 16).config

    def forward(self, x: torch.Tensor, timestep: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        alpha_bar = linear_schedule()[timestep].reshape(-1, 1, 1, 1)
        signal, noise = alpha_bar.sqrt(), 1 - alpha_bar
        # The mean over the colours is all that tells of the pixel; its noise is less by their number.
        channels = x.shape[1]
        seen = x.mean(dim=1, keepdim=True)
        gain = signal * self.variance / (alpha_bar * self.variance + noise / channels)
        grey = self.mean + gain * (seen - signal * self.mean)
        return ((x - signal * grey) / noise.sqrt(),)


class TestGreyFromColour:
    @pytest.fixture
    def pair(self) -> tuple[GreyPrior, DiffusionPrior]:
        """The best prior for grey images by way of three colours, and that of one channel."""
        colour = DiffusionPrior(_Optimal(), linear_schedule(), PriorConfig(channels=3))
        return GreyPrior(colour), DiffusionPrior(_Optimal(), linear_schedule(), PriorConfig())

    @pytest.mark.parametrize("t", [5, 20, 100, 300, 700, 900])
    def test_denoises_as_well_as_one_for_grey(self, pair: tuple[GreyPrior, DiffusionPrior], t: int) -> None:
        grey, single = pair
        alpha_bar = linear_schedule()[t]
        clean = 0.2 + 0.5 * torch.randn((2, 1, 16, 16))
        noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * torch.randn_like(clean)
        best = single.tweedie(noisy, single.epsilon(noisy, t), t)
        reached = grey.tweedie(noisy, grey.epsilon(noisy, t), t)
        assert float((reached - best).std()) < 0.03 * float(best.std())

    def test_slices_are_denoised_alike_in_any_batch(self, pair: tuple[GreyPrior, DiffusionPrior]) -> None:
        grey, _ = pair
        noisy = torch.randn((3, 1, 16, 16))
        alone = torch.cat([grey.epsilon(each, 100) for each in noisy.split(1)])
        torch.testing.assert_close(grey.epsilon(noisy, 100), alone)

    def test_repeating_the_image_is_worse(self, pair: tuple[GreyPrior, DiffusionPrior]) -> None:
        """Without another time and noise between the colours the network takes noise for image."""
        _, single = pair
        t, network = 300, _Optimal()
        noisy = torch.randn((2, 1, 16, 16))
        plain = network(noisy.expand(-1, 3, -1, -1), torch.tensor(t), False)[0].mean(dim=1, keepdim=True)
        assert float((plain - single.epsilon(noisy, t)).std()) > 0.1

    def test_one_time_for_all_or_one_each(self, pair: tuple[GreyPrior, DiffusionPrior]) -> None:
        grey, _ = pair
        noisy = torch.randn((3, 1, 8, 8))
        torch.testing.assert_close(grey.epsilon(noisy, 70), grey.epsilon(noisy, torch.full((3,), 70)))
        assert grey.config == PriorConfig(channels=1)

    def test_only_for_three_channels(self, prior: DiffusionPrior) -> None:
        with pytest.raises(
            PriorError, match=r"^prior: .* must have 1 channel, or 3 colours, got 1; choose another\.$"
        ):
            GreyPrior(prior)


class TestDescription:
    def test_of_the_shipped_prior(self) -> None:
        description = describe_prior(load_prior("phantom"))
        assert description["origin"].startswith("shipped; trained on phantoms of 64 × 64")
        assert description["image_size"] == 64
        assert description["channels"] == 1
        assert description["range"] == [-1.0, 1.0]
        assert (description["schedule"], description["train_steps"]) == ("linear", 1000)
        assert 0 < description["held_out_loss"] < 0.02
        assert not description["learned_variance"]

    def test_of_what_says_little(self, prior_folder: Path) -> None:
        description = describe_prior(load_prior(prior_folder))
        assert description["origin"] == "diffusers pipeline"
        assert description["held_out_loss"] is None
        json.dumps(description)

    def test_damaged_record(self, prior: DiffusionPrior, tmp_path: Path) -> None:
        prior.save(tmp_path / "copy")
        (tmp_path / "copy" / "training.json").write_text("{")
        with pytest.raises(PriorError, match=r"training\.json is not valid JSON; restore or remove it\.$"):
            describe_prior(load_prior(tmp_path / "copy"))

    @pytest.mark.parametrize(
        ("alpha_bar", "expected"),
        [
            (linear_schedule(), "linear"),
            (linear_schedule(4000, 2.5e-5, 0.005), "linear"),
            (cosine_schedule(), "cosine"),
            (linear_schedule().sqrt(), "other"),
        ],
    )
    def test_schedule_and_its_file(
        self, prior: DiffusionPrior, tmp_path: Path, alpha_bar: torch.Tensor, expected: str
    ) -> None:
        assert schedule_name(alpha_bar) == expected
        DiffusionPrior(prior.unet, alpha_bar, prior.config).save(tmp_path / "copy")
        torch.testing.assert_close(load_prior(tmp_path / "copy").alphas_cumprod, alpha_bar, rtol=1e-2, atol=1e-5)

    def test_samples_are_of_the_distribution(self) -> None:
        """DDIM with the best predictor gives the mean and the deviation it knows, but for few steps and clamping."""
        prior = DiffusionPrior(_Optimal(), linear_schedule(), PriorConfig(low=-2.0, high=2.0))
        samples = draw_samples(prior, 4, 24, steps=50)
        values = prior.normalise(samples)
        assert samples.shape == (4, 1, 24, 24)
        assert float(values.mean()) == pytest.approx(0.2, abs=0.05)
        assert float(values.std()) == pytest.approx(0.5, abs=0.05)
        torch.testing.assert_close(draw_samples(prior, 4, 24, steps=50), samples, rtol=0, atol=0)
        assert not torch.equal(draw_samples(prior, 4, 24, steps=50, seed=1), samples)

    def test_samples_can_be_stopped(self, prior: DiffusionPrior) -> None:
        with pytest.raises(InterruptedError):
            draw_samples(prior, 1, 16, check=_stop)


def _stop() -> None:
    raise InterruptedError


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


def _reweight(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(_weights(folder))
    change(weights)
    save_file(weights, _weights(folder))


def _pipe(path: Path) -> None:
    path.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        path.mkdir()


def test_a_prior_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1899956092799520 bytes.")

    DiffusionPrior(build_unet(8, 1, 1, 16), linear_schedule(), PriorConfig(channels=1)).save(tmp_path / "large")
    monkeypatch.setattr("napari_d3ip.prior.loading._load", refused)
    with pytest.raises(DeviceError, match="memory: not enough to load the prior"), enough_memory():
        load_prior(tmp_path / "large")
