"""Adapters kept as PEFT folders: what is saved is what was used, and PEFT reads it too."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from napari_d3ip import Settings, reconstruct
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.folders import settings_of_adapter
from napari_d3ip.adaptation.saved import SavedAdapter, average_adapters, load_adapter
from napari_d3ip.cli.main import main
from napari_d3ip.errors import D3IPError, PriorError, SettingsError
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction import Reconstruction


@pytest.fixture(scope="module")
def scan(make_scan: Callable[..., Any]) -> Any:
    return make_scan()


@pytest.fixture(scope="module")
def fields(prior_folder: Path) -> dict[str, Any]:
    """A short run that adapts well beyond rounding."""
    return {
        "prior": str(prior_folder),
        "device": "cpu",
        "start_t": 60,
        "steps": 2,
        "start_iterations": 5,
        "admm_steps": 2,
        "final_admm_steps": 2,
        "tv_weight": 1e-4,
        "adapt_steps": 3,
        "learning_rate": 1e-2,
        "guard": False,
    }


@pytest.fixture(scope="module")
def adapted(scan: Any, fields: dict[str, Any]) -> Reconstruction:
    return reconstruct(scan.measurement, Settings.create(fields, method="d3ip"))


def changed(prior: DiffusionPrior, saved: SavedAdapter) -> torch.Tensor:
    """Noise predicted of an image by a prior with adapters."""
    adapter = Adapter(prior, rank=saved.rank, learning_rate=1e-3)
    adapter.start_from(saved)
    with adapter.in_use(), torch.no_grad():
        return prior.epsilon(torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16), 30)


def _with(prior: DiffusionPrior, saved: SavedAdapter) -> Any:
    """Network of a prior with adapters."""
    adapter = Adapter(prior, rank=saved.rank, learning_rate=1e-3)
    adapter.start_from(saved)
    return prior.unet


class TestFolder:
    def test_round_trip(self, adapted: Reconstruction, tmp_path: Path) -> None:
        adapted.save_adapter(tmp_path / "adapter")
        loaded = load_adapter(tmp_path / "adapter")
        assert adapted.adapter is not None
        assert loaded.rank == adapted.settings.lora_rank
        assert loaded.about["settings"] == adapted.settings.model_dump(mode="json")
        assert loaded.weights.keys() == adapted.adapter.weights.keys()
        for name, weight in adapted.adapter.weights.items():
            assert torch.equal(loaded.weights[name], weight)
        adapted.save_adapter(tmp_path / "adapter")  # Over its own kind.

    def test_peft_loads_it(self, adapted: Reconstruction, prior_folder: Path, tmp_path: Path) -> None:
        from peft import PeftModel

        adapted.save_adapter(tmp_path / "adapter")
        expected = changed(load_prior(prior_folder), load_adapter(tmp_path / "adapter"))
        prior = load_prior(prior_folder)
        image = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        with torch.no_grad():
            bare = prior.epsilon(image, 30)
            PeftModel.from_pretrained(prior.unet, tmp_path / "adapter")  # Puts them into the network, too.
            torch.testing.assert_close(prior.epsilon(image, 30), expected, rtol=0, atol=1e-5)
        assert float((expected - bare).abs().max()) > 1e-3

    def test_a_flipped_bit_is_noticed(self, adapted: Reconstruction, tmp_path: Path) -> None:
        adapted.save_adapter(tmp_path / "own")
        assert adapted.adapter is not None
        assert load_adapter(tmp_path / "own").about == adapted.adapter.about
        weights = tmp_path / "own" / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-2] ^= 1
        weights.write_bytes(content)
        with pytest.raises(PriorError, match=r"own is no folder of saved adapters \(its weights are damaged"):
            load_adapter(tmp_path / "own")

    @pytest.mark.parametrize("damage", ["missing", "config", "weights", "kind"])
    def test_what_is_no_adapter_is_refused(self, adapted: Reconstruction, tmp_path: Path, damage: str) -> None:
        folder = tmp_path / "adapter"
        if damage != "missing":
            adapted.save_adapter(folder)
        if damage == "config":
            (folder / "adapter_config.json").write_text("{}")
        if damage == "weights":
            (folder / "adapter_model.safetensors").write_bytes(b"\0" * 40)
        if damage == "kind":
            config = json.loads((folder / "adapter_config.json").read_text())
            (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
        with pytest.raises(PriorError, match=r"^adapter: .*(choose|only LoRA)"):
            load_adapter(folder)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("r", value) for value in (0, -1, "4", 4.0, True, None, 10**6, float("inf"))),
            *(("lora_alpha", value) for value in (0, "x", None, [1], float("nan"), True)),
        ],
    )
    def test_numbers_that_cannot_be(self, adapted: Reconstruction, tmp_path: Path, name: str, value: object) -> None:
        adapted.save_adapter(tmp_path / "adapter")
        path = tmp_path / "adapter" / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
        with pytest.raises(PriorError, match=r"^adapter: .* is no folder of saved adapters \(.*\); choose another\.$"):
            load_adapter(tmp_path / "adapter")

    @pytest.mark.parametrize(
        "change",
        [
            lambda weight: weight * torch.nan,
            lambda weight: weight.to(torch.int8),
            lambda weight: torch.zeros(()),
            lambda weight: torch.zeros(3),
            lambda weight: torch.zeros(99, 99),
        ],
    )
    def test_factors_that_cannot_be(
        self, adapted: Reconstruction, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        from safetensors.torch import load_file, save_file

        adapted.save_adapter(tmp_path / "adapter")
        path = tmp_path / "adapter" / "adapter_model.safetensors"
        weights = load_file(path)
        name = sorted(weights)[0]
        for changed_weights in ({**weights, name: change(weights[name])}, {"a": weights[name]}, {}):
            save_file(changed_weights, path)
            with pytest.raises(PriorError, match=r"^adapter: .*; choose another\.$"):
                load_adapter(tmp_path / "adapter")

    @pytest.mark.parametrize("text", ["[]", "[" * 100_000, "3"])
    def test_records_that_are_none(self, adapted: Reconstruction, tmp_path: Path, text: str) -> None:
        adapted.save_adapter(tmp_path / "adapter")
        (tmp_path / "adapter" / "napari_d3ip.json").write_text(text)
        assert load_adapter(tmp_path / "adapter").about == {}  # As of PEFT's own folders.
        (tmp_path / "adapter" / "adapter_config.json").write_text(text)
        with pytest.raises(PriorError, match=r"^adapter: "):
            load_adapter(tmp_path / "adapter")

    def test_other_folders_are_left_alone(self, adapted: Reconstruction, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(PriorError, match="holds something else"):
            adapted.save_adapter(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class TestReuse:
    def test_starts_where_the_other_ended(
        self, scan: Any, fields: dict[str, Any], adapted: Reconstruction, tmp_path: Path
    ) -> None:
        """Without another step that counts, the second run samples with the first one's adapters."""
        adapted.save_adapter(tmp_path / "adapter")
        frozen = {**fields, "adapter": str(tmp_path / "adapter"), "learning_rate": 1e-12}
        warm = reconstruct(scan.measurement, Settings.create(frozen, method="d3ip"))
        assert warm.adapter is not None
        assert adapted.adapter is not None
        for name, weight in adapted.adapter.weights.items():
            torch.testing.assert_close(warm.adapter.weights[name], weight, rtol=0, atol=1e-6)
        fixed = reconstruct(scan.measurement, Settings.create(frozen, method="dds"))
        bare = reconstruct(scan.measurement, Settings.create(fields, method="dds"))
        assert abs(fixed.volume - warm.volume).max() < 1e-4 * abs(warm.volume).max()
        assert abs(fixed.volume - bare.volume).max() > 1e-3 * abs(bare.volume).max()

    def test_the_rank_is_the_saved_one(
        self, scan: Any, fields: dict[str, Any], adapted: Reconstruction, tmp_path: Path
    ) -> None:
        adapted.save_adapter(tmp_path / "adapter")
        settings = Settings.create(fields, method="d3ip", adapter=str(tmp_path / "adapter"), lora_rank=9)
        assert reconstruct(scan.measurement, settings).settings.lora_rank == adapted.settings.lora_rank

    def test_another_network_is_refused(
        self, scan: Any, fields: dict[str, Any], adapted: Reconstruction, tmp_path: Path
    ) -> None:
        adapted.save_adapter(tmp_path / "adapter")
        settings = Settings.create({**fields, "prior": "phantom"}, method="d3ip", adapter=str(tmp_path / "adapter"))
        with pytest.raises(PriorError, match="another network or rank"):
            reconstruct(scan.measurement, settings)

    @pytest.mark.parametrize("layers", ["attention", "residual"])
    def test_the_layers_are_the_saved_ones(
        self, scan: Any, fields: dict[str, Any], tmp_path: Path, layers: str
    ) -> None:
        saved = reconstruct(scan.measurement, Settings.create(fields, method="d3ip", adapt_layers=layers))
        saved.save_adapter(tmp_path / "adapter")
        assert settings_of_adapter(tmp_path / "adapter") == {
            "lora_rank": saved.settings.lora_rank,
            "adapt_layers": layers,
        }
        again = Settings.create(fields, method="dds", adapter=str(tmp_path / "adapter"))
        assert reconstruct(scan.measurement, again).settings.adapt_layers == layers

    @pytest.mark.parametrize("changes", [{"method": "dds"}, {"adapt_biases": True}])
    def test_runs_without_adapters_to_keep_say_so(
        self, scan: Any, fields: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        result = reconstruct(scan.measurement, Settings.create({"method": "d3ip", **fields, **changes}))
        with pytest.raises(D3IPError, match="has none to save"):
            result.save_adapter(tmp_path / "adapter")
        assert not (tmp_path / "adapter").exists()

    def test_an_empty_name_is_no_folder(self) -> None:
        with pytest.raises(SettingsError, match="adapter"):
            Settings.create(adapter="")


class TestForeign:
    """Folders that PEFT wrote."""

    def edit(self, folder: Path, **changes: Any) -> None:
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))

    def test_scale_is_that_of_peft(self, adapted: Reconstruction, prior_folder: Path, tmp_path: Path) -> None:
        adapted.save_adapter(tmp_path / "a")
        before = changed(load_prior(prior_folder), load_adapter(tmp_path / "a"))
        self.edit(tmp_path / "a", lora_alpha=3 * adapted.settings.lora_rank)
        saved = load_adapter(tmp_path / "a")
        tripled = changed(load_prior(prior_folder), saved)
        assert not torch.allclose(tripled, before, atol=1e-4)
        torch.testing.assert_close(changed(load_prior(prior_folder), average_adapters([saved])), tripled)
        unet = load_prior(prior_folder).unet
        torch.testing.assert_close(
            PeftModel.from_pretrained(unet, tmp_path / "a")(torch.zeros(1, unet.config.in_channels, 8, 8), 30).sample,
            _with(load_prior(prior_folder), saved)(torch.zeros(1, unet.config.in_channels, 8, 8), 30).sample,
        )

    @pytest.mark.parametrize("kind", ["use_dora", "use_rslora"])
    def test_more_than_two_factors(self, adapted: Reconstruction, tmp_path: Path, kind: str) -> None:
        adapted.save_adapter(tmp_path / "a")
        self.edit(tmp_path / "a", **{kind: True})
        with pytest.raises(PriorError, match=f"has {kind}, which is not supported"):
            load_adapter(tmp_path / "a")


def test_saving_fails_as_a_whole(adapted: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted.save_adapter(tmp_path / "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_space)
    assert adapted.adapter is not None
    for folder in ("a", "b"):
        with pytest.raises(PriorError, match="No space left"):
            average_adapters([adapted.adapter, adapted.adapter]).save(tmp_path / folder)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert list((tmp_path / "b").iterdir()) == []


class TestAverage:
    def test_too_many(self) -> None:
        one = SavedAdapter({"r": 100}, {"a.lora_A.weight": torch.zeros(100, 2)})
        with pytest.raises(PriorError, match="ranks add up to 300, more than 256"):
            average_adapters([one] * 3)

    def test_changes_are_averaged_not_factors(self, prior_folder: Path) -> None:
        saved = []
        for seed, rank in ((0, 2), (1, 4)):
            adapter = Adapter(load_prior(prior_folder), rank=rank, learning_rate=1e-3)
            generator = torch.Generator().manual_seed(seed)
            weights = {
                name: torch.randn(factor.shape, generator=generator) for name, factor in adapter._factors.items()
            }
            saved.append(SavedAdapter({"r": rank, "lora_alpha": rank, "peft_type": "LORA"}, weights))
        mean = average_adapters(saved)
        assert mean.rank == 6
        changes = []
        for one in (*saved, mean):
            adapter = Adapter(load_prior(prior_folder), rank=one.rank, learning_rate=1e-3)
            adapter.start_from(one)
            changes.append([layer.get_delta_weight("default") for layer in adapter.layers])
        for first, second, middle in zip(*changes, strict=True):
            torch.testing.assert_close(middle, (first + second) / 2, rtol=1e-4, atol=1e-5)

    def test_different_networks_have_no_mean(self) -> None:
        one = SavedAdapter({"r": 1}, {"a.lora_A.weight": torch.zeros(1, 2)})
        other = SavedAdapter({"r": 1}, {"b.lora_A.weight": torch.zeros(1, 2)})
        with pytest.raises(PriorError, match="different networks"):
            average_adapters([one, other])

    def test_on_the_command_line(
        self, adapted: Reconstruction, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folders = [str(tmp_path / name) for name in ("a", "b")]
        for folder in folders:
            adapted.save_adapter(folder)
        assert main(["adapters", "average", *folders, "-o", str(tmp_path / "mean")]) == 0
        assert "mean of 2 adapters, rank 8" in capsys.readouterr().out
        assert load_adapter(tmp_path / "mean").rank == 8
        assert main(["adapters", "average", str(tmp_path), "-o", str(tmp_path / "mean")]) == 2
