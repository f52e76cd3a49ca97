"""Import of guided-diffusion checkpoints: the same prediction as a small network in the original layout."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.errors import PriorError
from napari_d3ip.prior.guided_diffusion import AttentionHeads, GuidedDiffusionUNet
from napari_d3ip.prior.importing import ImportOptions, import_guided_diffusion
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.schedules import linear_schedule


@dataclass(frozen=True)
class Config:
    """Options of the original network, under their original names."""

    channels: int = 1
    learn_sigma: bool = False
    num_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_ds: tuple[int, ...] = (2,)
    num_heads: int = 4
    num_head_channels: int = -1
    use_new_attention_order: bool = False
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False

    @property
    def heads(self) -> AttentionHeads:
        width = None if self.num_head_channels == -1 else self.num_head_channels
        return AttentionHeads(self.num_heads, width, self.use_new_attention_order)


class Timed(nn.Module):
    """A module that takes the time embedding, too."""


class Blocks(nn.Sequential):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # type: ignore[override]
        for module in self:
            x = module(x, time) if isinstance(module, Timed) else module(x)
        return x


class ResidualBlock(Timed):
    def __init__(self, entering: int, leaving: int, time: int, config: Config, resize: float = 1.0) -> None:
        super().__init__()
        self.resize, self.scale_shift = resize, config.use_scale_shift_norm
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, entering), nn.SiLU(), nn.Conv2d(entering, leaving, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, (2 if self.scale_shift else 1) * leaving))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, leaving), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(leaving, leaving, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == 0.5:
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resize == 2 else x

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.in_layers[2](self._resized(self.in_layers[:2](x)))
        embedded = self.emb_layers(time)[..., None, None]
        if self.scale_shift:
            scale, shift = embedded.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + embedded)
        return self.skip_connection(self._resized(x)) + h


class AttentionBlock(nn.Module):
    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.heads = config.heads.count(width)
        self.new_order = config.use_new_attention_order
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, *size = x.shape
        flat = x.reshape(batch, width, -1)
        qkv = self.qkv(self.norm(flat))
        if self.new_order:
            q, k, v = (part.unflatten(1, (self.heads, -1)) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.unflatten(1, (self.heads, -1)).chunk(3, dim=2)
        weight = torch.einsum("bhct,bhcs->bhts", q, k) / math.sqrt(q.shape[2])
        attended = torch.einsum("bhts,bhcs->bhct", weight.softmax(dim=-1), v).flatten(1, 2)
        return (flat + self.proj_out(attended)).reshape(batch, width, *size)


class Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class OriginalUNet(nn.Module):
    """The U-Net of Dhariwal & Nichol, NeurIPS 2021, with its names and order of parameters; random weights."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        base, time = config.num_channels, 4 * config.num_channels
        self.base = base
        self.time_embed = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))

        def block(entering: int, leaving: int, ds: int) -> list[nn.Module]:
            made: list[nn.Module] = [ResidualBlock(entering, leaving, time, config)]
            return [*made, AttentionBlock(leaving, config)] if ds in config.attention_ds else made

        def resample(width: int, factor: float) -> nn.Module:
            if config.resblock_updown:
                return ResidualBlock(width, width, time, config, factor)
            return Downsample(width) if factor < 1 else Upsample(width)

        width = base
        self.input_blocks = nn.ModuleList([Blocks(nn.Conv2d(config.channels, width, 3, padding=1))])
        skips, ds = [width], 1
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(Blocks(*block(width, mult * base, ds)))
                width = mult * base
                skips.append(width)
            if level < len(config.channel_mult) - 1:
                self.input_blocks.append(Blocks(resample(width, 0.5)))
                skips.append(width)
                ds *= 2
        self.middle_block = Blocks(
            ResidualBlock(width, width, time, config),
            AttentionBlock(width, config),
            ResidualBlock(width, width, time, config),
        )
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for index in range(config.num_res_blocks + 1):
                made = block(width + skips.pop(), mult * base, ds)
                width = mult * base
                if level and index == config.num_res_blocks:
                    made.append(resample(width, 2.0))
                    ds //= 2
                self.output_blocks.append(Blocks(*made))
        out = config.channels * (2 if config.learn_sigma else 1)
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        half = self.base // 2
        frequency = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angle = timestep[:, None].float() * frequency
        time = self.time_embed(torch.cat((angle.cos(), angle.sin()), dim=1))
        skips = []
        for module in self.input_blocks:
            x = module(x, time)
            skips.append(x)
        x = self.middle_block(x, time)
        for module in self.output_blocks:
            x = module(torch.cat((x, skips.pop()), dim=1), time)
        return self.out(x)


def original(config: Config) -> OriginalUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = OriginalUNet(config).eval().requires_grad_(False)
        for parameter in network.parameters():  # No affine part of a norm at one and zero, nothing small.
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def deviation(folder: Path, network: OriginalUNet, config: Config) -> float:
    """Largest difference of the predicted noise, of a standard deviation of about one."""
    noisy = torch.randn((3, config.channels, 16, 24), generator=torch.Generator().manual_seed(1))
    timestep = torch.tensor([0, 411, 999])
    expected = network(noisy, timestep)[:, : config.channels]
    assert 0.1 < float(expected.std()) < 10
    return float((load_prior(folder).epsilon(noisy, timestep) - expected).abs().max())


CONFIGS = {
    "plain": Config(),
    "learned variance": Config(learn_sigma=True),
    "complex": Config(channels=2, use_scale_shift_norm=True),
    "colour": Config(channels=3, learn_sigma=True, resblock_updown=True),
    "as the paper's": Config(
        learn_sigma=True,
        channel_mult=(1, 1, 2, 2),
        num_res_blocks=2,
        attention_ds=(4, 8),
        num_head_channels=16,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ),
    "as SCD's": Config(channel_mult=(1, 2, 2), attention_ds=(2, 4), num_heads=1, use_scale_shift_norm=True),
    "new attention order": Config(use_new_attention_order=True, num_head_channels=16, attention_ds=(1, 2)),
    "heads of different widths": Config(attention_ds=(1, 2), use_new_attention_order=True),
    "heads of different widths, old order": Config(attention_ds=(1, 2), resblock_updown=True),
    "attention in the middle only": Config(attention_ds=(), use_scale_shift_norm=True, num_res_blocks=2),
    "one level": Config(channel_mult=(1,), attention_ds=()),
}


class TestParity:
    @pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
    @pytest.mark.parametrize("form", ["names", "list"])
    def test_predicts_the_same(self, config: Config, form: str, tmp_path: Path) -> None:
        network = original(config)
        state = network.state_dict()
        # Trainers keep the moving average as a list of parameters, and its settings beside it.
        content: Any = state if form == "names" else {"decay": 0.999, "shadow_params": list(network.parameters())}
        torch.save(content, tmp_path / "model.pt")
        prior = import_guided_diffusion(
            tmp_path / "model.pt", tmp_path / "prior", ImportOptions(config.heads, image_size=16)
        )
        assert prior.config.channels == config.channels
        assert deviation(tmp_path / "prior", network, config) < 1e-4

    def test_wrong_heads_are_not_the_same(self, tmp_path: Path) -> None:
        """The tests above would notice."""
        config = Config(num_heads=4)
        network = original(config)
        torch.save(network.state_dict(), tmp_path / "model.pt")
        import_guided_diffusion(tmp_path / "model.pt", tmp_path / "prior", ImportOptions(AttentionHeads(2)))
        assert deviation(tmp_path / "prior", network, config) > 1e-3


def shuffled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name].clone() for name in sorted(state, key=lambda name: name[::-1])}


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "any order": shuffled,
    "in parallel": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    "average of a module": lambda state: {
        "n_averaged": torch.tensor(3),
        **{f"model.{name}": torch.zeros_like(tensor) for name, tensor in state.items()},
        **{f"ema.{name}": tensor for name, tensor in state.items()},
    },
    "average beside the model": lambda state: {
        "epoch": 3,
        "model": {name: torch.zeros_like(tensor) for name, tensor in state.items()},
        "ema": {"decay": 0.9, "shadow_params": list(state.values())},
    },
    "bare list": lambda state: list(state.values()),
}


class TestLayout:
    def test_of_the_published_network_for_256(self) -> None:
        """Its options as published; 552.8 million parameters, without memory for them."""
        config = Config(
            channels=3,
            learn_sigma=True,
            num_channels=256,
            channel_mult=(1, 1, 2, 2, 4, 4),
            num_res_blocks=2,
            attention_ds=(8, 16, 32),
            num_head_channels=64,
            use_scale_shift_norm=True,
            resblock_updown=True,
        )
        with torch.device("meta"):
            parameters = list(OriginalUNet(config).parameters())
            layout = GuidedDiffusionUNet.from_shapes([tuple(parameter.shape) for parameter in parameters])
            unet = layout.build(256, layout.heads_for_diffusers(config.heads)[0])
        assert sum(parameter.numel() for parameter in parameters) == pytest.approx(552.8e6, rel=1e-4)
        assert layout.widths == (256, 256, 512, 512, 1024, 1024)
        assert layout.attention == (False, False, False, True, True, True)
        assert (layout.num_res_blocks, layout.use_scale_shift_norm, layout.resblock_updown) == (2, True, True)
        assert (layout.in_channels, layout.out_channels) == (3, 6)
        converted = layout.convert(parameters, config.heads)
        assert {name: tensor.shape for name, tensor in converted.items()} == {
            name: tensor.shape for name, tensor in unet.state_dict().items()
        }


class TestForms:
    def test_number_beside_the_weights(self, tmp_path: Path) -> None:
        torch.save(
            {"ema": 0.999, "params": torch.zeros(3), "state_dict": original(Config()).state_dict()}, tmp_path / "m.pt"
        )
        import_guided_diffusion(tmp_path / "m.pt", tmp_path / "prior")
        assert (tmp_path / "prior" / "model_index.json").exists()

    @pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
    def test_is_found(self, form: Callable[[dict[str, Tensor]], Any], tmp_path: Path) -> None:
        network = original(Config())
        torch.save(form(network.state_dict()), tmp_path / "model.pt")
        import_guided_diffusion(tmp_path / "model.pt", tmp_path / "prior")
        assert deviation(tmp_path / "prior", network, Config()) < 1e-4

    def test_safetensors(self, tmp_path: Path) -> None:
        network = original(Config())
        save_file(network.state_dict(), tmp_path / "model.safetensors")
        import_guided_diffusion(tmp_path / "model.safetensors", tmp_path / "prior")
        assert deviation(tmp_path / "prior", network, Config()) < 1e-4

    def test_half_precision(self, tmp_path: Path) -> None:
        network = original(Config()).half().float()
        torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "model.pt")
        import_guided_diffusion(tmp_path / "model.pt", tmp_path / "prior")
        assert deviation(tmp_path / "prior", network, Config()) < 1e-4


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


class TestRefused:
    """With a sentence, and without a trace in the output folder."""

    def refusal(self, checkpoint: Path, options: ImportOptions | None = None) -> str:
        out = checkpoint.parent / "prior"
        with pytest.raises(PriorError) as caught:
            import_guided_diffusion(checkpoint, out, options)
        assert not out.exists()
        message = str(caught.value)
        assert message.endswith(".")
        assert "\n" not in message
        return message

    def saved(self, tmp_path: Path, content: Any) -> Path:
        torch.save(content, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    @pytest.mark.parametrize("plain", [True, False])
    def test_nothing_is_unpickled(self, plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "model.pt"
        content = {**original(Config()).state_dict(), "args": Evil()}
        path.write_bytes(pickle.dumps(content)) if plain else torch.save(content, path)
        assert "unpickling other objects could run any code" in self.refusal(path)
        assert not (tmp_path / "executed").exists()

    def test_missing(self, tmp_path: Path) -> None:
        assert "does not exist; give the file to import" in self.refusal(tmp_path / "nowhere.pt")

    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
    def test_broken(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"PK\x03\x04 cut")
        assert name in self.refusal(tmp_path / name)

    @pytest.mark.parametrize("content", [{}, [], {"model": {}}, {"weight": torch.zeros(2)}, torch.zeros(3), [1, 2]])
    def test_no_network(self, content: Any, tmp_path: Path) -> None:
        assert "holds neither" in self.refusal(self.saved(tmp_path, content))

    def test_other_names(self, tmp_path: Path) -> None:
        state = {**original(Config()).state_dict(), "encoder.weight": torch.zeros(2)}
        assert "unknown name encoder.weight" in self.refusal(self.saved(tmp_path, state))

    def test_layer_missing(self, tmp_path: Path) -> None:
        state = original(Config(num_res_blocks=2)).state_dict()
        left = {name: tensor for name, tensor in state.items() if not name.startswith("output_blocks.2.")}
        assert "must be of guided-diffusion's" in self.refusal(self.saved(tmp_path, left))
        assert "must be of guided-diffusion's" in self.refusal(self.saved(tmp_path, list(left.values())))

    def test_layer_elsewhere(self, tmp_path: Path) -> None:
        state = original(Config()).state_dict()
        renamed = {name.replace("out.2.", "out.3."): tensor for name, tensor in state.items()}
        assert "out.3.weight in place of out.2.weight" in self.refusal(self.saved(tmp_path, renamed))

    @pytest.mark.parametrize("more", [torch.tensor(3), torch.zeros(32, 32, 33, 33), torch.zeros(2, 2)])
    def test_list_of_more(self, more: Tensor, tmp_path: Path) -> None:
        parameters = list(original(Config()).parameters())
        for content in ([*parameters, more, more], [*parameters[:6], more, more, *parameters[6:]], [more, more]):
            assert "must be of guided-diffusion's" in self.refusal(self.saved(tmp_path, content))

    @pytest.mark.parametrize(
        "change",
        [
            lambda weight: weight * torch.nan,
            lambda weight: weight.to_sparse(),
            lambda weight: weight.to("meta"),
            lambda weight: weight.long(),
            lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        ],
    )
    @pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
    def test_weights_that_are_none(self, tmp_path: Path, change: Callable[[Tensor], Tensor]) -> None:
        state = original(Config()).state_dict()
        state["out.2.weight"] = change(state["out.2.weight"])
        message = self.refusal(self.saved(tmp_path, state))
        assert message.startswith("prior: ")

    def test_containers_without_end(self, tmp_path: Path) -> None:
        endless: dict[Any, Any] = {}
        endless["model"] = endless
        assert "nested too deeply" in self.refusal(self.saved(tmp_path, endless))
        state: dict[Any, Tensor] = dict(original(Config()).state_dict())
        assert "must be of guided-diffusion's" in self.refusal(self.saved(tmp_path, {**state, 3: torch.zeros(1)}))

    @pytest.mark.parametrize(
        "options",
        [
            ImportOptions(low=float("nan")),
            ImportOptions(high=float("inf")),
            ImportOptions(low=-1e300),
            ImportOptions(diffusion_steps=10**9),
            ImportOptions(diffusion_steps=1),
        ],
    )
    def test_numbers_that_cannot_be(self, tmp_path: Path, options: ImportOptions) -> None:
        message = self.refusal(self.saved(tmp_path, original(Config()).state_dict()), options)
        assert message.startswith(("low: ", "diffusion_steps: "))

    def test_classes(self, tmp_path: Path) -> None:
        state = {**original(Config()).state_dict(), "label_emb.weight": torch.zeros(10, 128)}
        assert "conditioned on classes" in self.refusal(self.saved(tmp_path, state))

    def test_time_embedding_of_another_width(self, tmp_path: Path) -> None:
        state = original(Config()).state_dict()
        state["time_embed.0.weight"] = torch.zeros(128, 64)
        assert "channel_mult begins with 1" in self.refusal(self.saved(tmp_path, state))

    def test_conditional_on_an_image(self, tmp_path: Path) -> None:
        state = original(Config()).state_dict()
        state["input_blocks.0.0.weight"] = torch.zeros(32, 5, 3, 3)
        assert "1 channels from 5" in self.refusal(self.saved(tmp_path, state))

    def test_other_norms(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="divisible"):  # guided-diffusion itself could not make it
            original(Config(num_channels=16))
        state = original(Config()).state_dict()
        narrow = {name: _halved(name, tensor) for name, tensor in state.items()}
        assert "cannot be normalised in 32 groups" in self.refusal(self.saved(tmp_path, narrow))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (ImportOptions(AttentionHeads(5)), "num_heads: attention over 64 channels"),
            (ImportOptions(AttentionHeads(4, 48)), "num_head_channels: attention over 64 channels"),
            (ImportOptions(low=1.0), "low: low must be below high, got 1 and 1"),
            (ImportOptions(diffusion_steps=1500, rescale_timesteps=True), "rescale_timesteps: diffusion steps must"),
        ],
    )
    def test_impossible_options(self, options: ImportOptions, message: str, tmp_path: Path) -> None:
        path = self.saved(tmp_path, original(Config()).state_dict())
        assert self.refusal(path, options).startswith(message)

    def test_a_folder_that_is_there(self, tmp_path: Path) -> None:
        path = self.saved(tmp_path, original(Config()).state_dict())
        (tmp_path / "prior").mkdir()
        with pytest.raises(PriorError, match=r"exists already; remove it or choose another folder\.$"):
            import_guided_diffusion(path, tmp_path / "prior")


def _halved(name: str, tensor: Tensor) -> Tensor:
    """Part of a tensor, as of a network of half the channels but for images."""
    halves = [size if size in (1, 3) else size // 2 for size in tensor.shape]
    return tensor[tuple(slice(0, half) for half in halves)].clone()


class TestSettings:
    """What the checkpoint does not say, written to the folder."""

    def made(self, tmp_path: Path, options: ImportOptions, config: Config | None = None) -> Path:
        torch.save(original(config or Config()).state_dict(), tmp_path / "model.pt")
        import_guided_diffusion(tmp_path / "model.pt", tmp_path / "prior", options)
        return tmp_path / "prior"

    def test_linear_schedule(self, tmp_path: Path) -> None:
        prior = load_prior(self.made(tmp_path, ImportOptions()))
        torch.testing.assert_close(prior.alphas_cumprod, linear_schedule(), rtol=1e-3, atol=1e-7)

    def test_linear_schedule_of_more_steps_has_smaller_ones(self, tmp_path: Path) -> None:
        prior = load_prior(self.made(tmp_path, ImportOptions(diffusion_steps=4000)))
        torch.testing.assert_close(prior.alphas_cumprod, linear_schedule(4000, 2.5e-5, 0.005), rtol=1e-2, atol=1e-5)

    def test_cosine_schedule_by_name(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, ImportOptions(schedule="cosine"))
        alpha_bar = load_prior(folder).alphas_cumprod
        # Nichol & Dhariwal, ICML 2021, equation 17, up to the limit of the last beta.
        t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
        offset = 0.008
        cosine = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        expected = cosine / math.cos(offset / (1 + offset) * math.pi / 2) ** 2
        torch.testing.assert_close(alpha_bar[:-1].double(), expected[:-1], rtol=1e-3, atol=1e-6)
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        assert scheduler["beta_schedule"] == "squaredcos_cap_v2"
        assert scheduler["trained_betas"] is None

    def test_rescaled_times_are_every_fourth_of_4000(self, tmp_path: Path) -> None:
        options = ImportOptions(schedule="cosine", diffusion_steps=4000, rescale_timesteps=True)
        prior = load_prior(self.made(tmp_path, options))
        full = ImportOptions(schedule="cosine", diffusion_steps=4000).alphas_cumprod()
        torch.testing.assert_close(prior.alphas_cumprod, full[::4], rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize(
        ("channels", "options", "expected"),
        [
            (1, ImportOptions(), (-1, 1)),
            (2, ImportOptions(), (0, 1)),
            (3, ImportOptions(), (-1, 1)),
            (1, ImportOptions(low=0.0), (0, 1)),
            (2, ImportOptions(low=-0.5, high=2.0), (-0.5, 2)),
        ],
    )
    def test_range(self, channels: int, options: ImportOptions, expected: tuple[float, float], tmp_path: Path) -> None:
        config = load_prior(self.made(tmp_path, options, Config(channels=channels))).config
        assert (config.low, config.high) == expected

    def test_record_of_the_origin(self, tmp_path: Path) -> None:
        record = json.loads((self.made(tmp_path, ImportOptions(image_size=64)) / "import.json").read_text())
        assert record["checkpoint"] == "model.pt"
        assert record["options"]["image_size"] == 64
        assert record["options"]["heads"]["num_heads"] == 4

    def test_residual_blocks_that_change_the_resolution_are_adapted(self, tmp_path: Path) -> None:
        prior = load_prior(self.made(tmp_path, ImportOptions(), Config(resblock_updown=True)))
        adapter = Adapter(prior, rank=2, learning_rate=1e-3)
        adapted = {name.rsplit(".", 2)[0] for name, _ in prior.unet.named_parameters() if "lora_A" in name}
        assert any("downsamplers.0.conv1" in name for name in adapted)
        assert any("upsamplers.0.time_emb_proj" in name for name in adapted)
        assert len(adapted) == len(adapter.layers)
