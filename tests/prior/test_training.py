"""Training of a tiny prior: it learns, writes a pipeline folder, and resumes to the same weights bit by bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_d3ip.errors import FileError, PriorError, SettingsError
from napari_d3ip.prior.description import describe_prior
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.losses import epsilon_loss, held_out_loss
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.phantoms import EllipsePhantoms, MixedPhantoms
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.prior.train import Best, TrainingProgress, train
from napari_d3ip.prior.training_settings import Intervals, TrainingSettings

SMALL = TrainingSettings(steps=12, batch=4, size=16, width=8, warmup=4, ema=0.9, learning_rate=2e-3)


QUICK = Intervals(4, 4, 8)


@pytest.fixture(autouse=True)
def no_model_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than such a training, and has tests of its own."""
    monkeypatch.setattr("napari_d3ip.prior.train.write_model_card", lambda *_: None)


def quick(prior: DiffusionPrior, size: int) -> float:
    return held_out_loss(prior, EllipsePhantoms(size), count=8)


def run(folder: Path, settings: TrainingSettings = SMALL, *, resume: bool = False) -> list[TrainingProgress]:
    return list(train(folder, settings, resume=resume, every=QUICK))


def test_rate_warms_up_stays_and_decays() -> None:
    settings = TrainingSettings(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([1 - step / 20 for step in range(20)])


def test_training_learns_and_writes_a_prior(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=40)
    progress = run(tmp_path / "prior", settings)
    assert [each.step for each in progress] == list(range(4, 41, 4))
    assert {each.total for each in progress} == {40}
    assert progress[-1].loss < 0.9 * progress[0].loss
    held_out = [each.held_out_loss for each in progress if each.held_out_loss is not None]
    assert len(held_out) == len(progress)
    assert held_out[-1] < held_out[0]

    folder = tmp_path / "prior"
    assert (folder / "model_index.json").exists()
    assert not (folder / "checkpoint.pt").exists()
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["steps"] == 40
    assert [point["held_out_loss"] for point in record["curve"]] == held_out
    prior = load_prior(folder)
    assert prior.config == PriorConfig(patch_size=2)
    # The moving average is what is saved; half precision costs next to nothing.
    assert quick(prior, 16) == pytest.approx(min(held_out), rel=1e-2)


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, phantoms="mixed", pool=3)], ids=["steps", "pools"])
def test_resumed_training_is_bit_identical(tmp_path: Path, settings: TrainingSettings) -> None:
    run(tmp_path / "whole", settings)
    interrupted = train(tmp_path / "parts", settings, every=QUICK)
    for progress in interrupted:
        if progress.step == 8:
            break
    interrupted.close()
    assert not (tmp_path / "parts" / "model_index.json").exists()
    torch.rand(5)  # The global generator plays no part.
    assert [each.step for each in run(tmp_path / "parts", settings, resume=True)] == [12]
    whole, parts = load_prior(tmp_path / "whole"), load_prior(tmp_path / "parts")
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weight, rtol=0, atol=0)


class Prescribed:
    """Held-out losses in a prescribed order, in place of measured ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
        self.losses = iter(losses)
        monkeypatch.setattr("napari_d3ip.prior.train.held_out_loss", lambda *_, **__: next(self.losses))


def weights_of(folder: Path) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in load_prior(folder).parameters()])


def test_the_best_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "short", replace(SMALL, steps=8, decay=0.0))
    Prescribed(monkeypatch, 0.5, 0.2, 0.3)
    progress = run(tmp_path / "whole", replace(SMALL, decay=0.0))
    assert [each.best for each in progress] == [Best(4, 0.5), Best(8, 0.2), Best(8, 0.2)]
    torch.testing.assert_close(weights_of(tmp_path / "whole"), weights_of(tmp_path / "short"), rtol=0, atol=0)
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert record["best"] == {"step": 8, "held_out_loss": 0.2}
    assert describe_prior(load_prior(tmp_path / "whole"))["held_out_loss"] == 0.2


def test_the_best_may_be_what_it_started_from(
    tmp_path: Path, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    Prescribed(monkeypatch, 0.1, 0.5, 0.2, 0.3)
    progress = list(train(tmp_path, SMALL, initial=prior, every=QUICK))
    assert {each.start_loss for each in progress} == {0.1}
    assert progress[-1].best == Best(0, 0.1)
    given = torch.cat([parameter.flatten() for parameter in prior.parameters()])
    torch.testing.assert_close(weights_of(tmp_path), given.half().float(), rtol=0, atol=0)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["start"] == {"prior": Path(prior.name).name, "held_out_loss": 0.1, "known_loss": None}


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Prescribed(monkeypatch, 0.5, float("nan"))
    with pytest.raises(PriorError, match=r"^training: the held-out loss is nan at step 8; give a lower learning rate"):
        run(tmp_path)
    assert not (tmp_path / "model_index.json").exists()


def test_stopped_between_checkpoints_it_goes_on_to_the_same_prior(tmp_path: Path) -> None:
    every = Intervals(2, 4, 8)
    list(train(tmp_path / "whole", SMALL, every=every))
    stopped = train(tmp_path / "parts", SMALL, every=every)
    assert [next(stopped).step for _ in range(3)] == [2, 4, 6]
    stopped.close()
    assert [each.step for each in train(tmp_path / "parts", SMALL, every=every, resume=True)] == [8, 10, 12]
    torch.testing.assert_close(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"), rtol=0, atol=0)
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "parts")]
    for record in records:
        for point in record["curve"]:
            point.pop("seconds")
    assert records[0] == records[1]
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_what_there_is_can_be_taken(tmp_path: Path) -> None:
    """A training that was stopped is resumed with no more steps."""
    stopped = train(tmp_path, SMALL, every=Intervals(2, 4, 8))
    assert [next(stopped).step for _ in range(3)] == [2, 4, 6]
    stopped.close()
    (last,) = train(tmp_path, replace(SMALL, steps=1), every=QUICK, resume=True)
    assert last.step == last.total == 6
    assert json.loads((tmp_path / "training.json").read_text())["best"]["step"] in (4, 6)
    assert torch.isfinite(weights_of(tmp_path)).all()
    assert not (tmp_path / "checkpoint.pt").exists()


SETTLING = replace(SMALL, steps=100, decay=0.5, patience=8)


def test_it_ends_when_the_held_out_loss_no_longer_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 16 the loss is not 1 % below that of step 8; the rate then decays over as many steps again."""
    Prescribed(monkeypatch, 0.5, 0.4, 0.4, 0.398, *[0.3] * 4)
    progress = run(tmp_path, SETTLING)
    assert [(each.step, each.total) for each in progress] == [
        *((step, 100) for step in (4, 8, 12)),
        *((step, 32) for step in (16, 20, 24, 28, 32)),
    ]
    assert progress[-1].best == Best(20, 0.3)
    assert SETTLING.settled_at(16).rate(24) == pytest.approx(SMALL.learning_rate / 2)
    assert json.loads((tmp_path / "training.json").read_text())["settled"] == 16


def test_resumed_after_it_settled_it_ends_where_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Prescribed(monkeypatch, 0.5, 0.4, 0.4, *[0.4] * 6)
    stopped = train(tmp_path, SETTLING, every=QUICK)
    for progress in stopped:
        if progress.step == 16:
            break
    stopped.close()
    assert progress.total == 32
    assert run(tmp_path, SETTLING, resume=True)[-1].step == 32


def test_a_start_that_nothing_improves_on_ends_it_soon(
    tmp_path: Path, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    Prescribed(monkeypatch, 0.1, *[0.2] * 20)
    progress = list(train(tmp_path, SETTLING, initial=prior, every=QUICK))
    assert progress[-1].step == 16
    assert progress[-1].best == Best(0, 0.1)


def test_minutes_end_it_with_the_rate_at_nothing(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=10**6, minutes=0.01)
    progress = run(tmp_path, settings)
    done = progress[-1].step
    assert 0 < done < 10**6
    assert progress[-1].total == done
    assert json.loads((tmp_path / "training.json").read_text())["curve"][-1]["step"] == done
    load_prior(tmp_path)
    assert settings.rate(5, 0.0) == settings.learning_rate
    assert settings.rate(5, 0.6 * (1 - settings.decay / 2)) == pytest.approx(settings.learning_rate / 2)
    assert settings.rate(5, 0.6) == pytest.approx(0.0)


@pytest.mark.gpu
def test_replayed_on_cuda_it_learns_as_it_does_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for name in ("replayed", "launched"):
        settings = replace(SMALL, steps=60, pool=4)
        progress = list(train(tmp_path / name, settings, device="cuda", every=Intervals(50, 60, 8)))
        losses.append(progress[-1].held_out_loss)
        assert load_prior(tmp_path / name).epsilon(torch.zeros((1, 1, 16, 16)), 5).shape == (1, 1, 16, 16)
        monkeypatch.setattr("napari_d3ip.prior.train.replay_passes", lambda *_: None)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_pool_is_one_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def watched(prior: DiffusionPrior, image: torch.Tensor, *arguments: Any) -> torch.Tensor:
        seen.append(image)
        return epsilon_loss(prior, image, *arguments)

    monkeypatch.setattr("napari_d3ip.prior.train.epsilon_loss", watched)
    list(train(tmp_path, replace(SMALL, steps=3, pool=3), every=QUICK))
    expected = EllipsePhantoms(16).draw(12, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.cat(seen), expected, rtol=0, atol=0)


def test_unknown_phantoms(tmp_path: Path) -> None:
    with pytest.raises(
        PriorError, match=r"^phantoms: must be ellipses, mixed or package\.module:function, got 'cubes'\.$"
    ):
        run(tmp_path / "prior", replace(SMALL, phantoms="cubes"))
    assert not (tmp_path / "prior").exists()


class TestMixedPhantoms:
    def test_shape_and_range(self) -> None:
        images = MixedPhantoms(32).draw(64, torch.Generator().manual_seed(0))
        assert images.shape == (64, 1, 32, 32)
        assert images.dtype == torch.float32
        assert float(images.min()) == 0
        assert (images.amax(dim=(1, 2, 3)) > 0.3).all()
        assert float(images.max()) == 1

    def test_depend_on_the_seed_only(self) -> None:
        first = MixedPhantoms(16).draw(4, torch.Generator().manual_seed(7))
        torch.manual_seed(99)
        torch.testing.assert_close(first, MixedPhantoms(16).draw(4, torch.Generator().manual_seed(7)), rtol=0, atol=0)
        assert not torch.equal(first, MixedPhantoms(16).draw(4, torch.Generator().manual_seed(8)))

    def test_textures_are_finer_than_ellipses(self) -> None:
        def roughness(images: torch.Tensor) -> float:
            inner = images[:, 0, 8:-8, 8:-8]
            return float(inner.diff(dim=1).abs().mean() / inner.mean())

        mixed = MixedPhantoms(64).draw(64, torch.Generator().manual_seed(0))
        assert roughness(mixed) > 1.3 * roughness(EllipsePhantoms(64).draw(64, torch.Generator().manual_seed(0)))

    @pytest.mark.gpu
    def test_on_cuda(self) -> None:
        on_cpu, on_cuda = (MixedPhantoms(32).draw(8, torch.Generator().manual_seed(0), d) for d in ("cpu", "cuda"))
        torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=0, atol=0.02)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    settings = replace(SMALL, steps=4)
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, replace(settings, seed=seed))
        weights.append(torch.cat([p.flatten() for p in load_prior(tmp_path / name).parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0], weights[2])


def test_held_out_loss_is_repeatable_and_leaves_the_generator_alone(prior: DiffusionPrior) -> None:
    before = torch.get_rng_state()
    assert quick(prior, 16) == quick(prior, 16)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_untrained_loss_is_about_the_variance_of_the_noise() -> None:
    prior = DiffusionPrior(build_unet(8, 2, 1, 16), linear_schedule(), PriorConfig(patch_size=2))
    image = EllipsePhantoms(16).draw(4, torch.Generator().manual_seed(0))
    loss = epsilon_loss(prior, image, torch.Generator().manual_seed(0))
    assert 0.3 < float(loss.detach()) < 3


def test_a_finished_prior_is_not_trained_over(tmp_path: Path) -> None:
    run(tmp_path / "prior", replace(SMALL, steps=4))
    before = (tmp_path / "prior" / "training.json").read_text()
    with pytest.raises(PriorError, match=r"prior holds a prior already; choose another folder"):
        run(tmp_path / "prior", replace(SMALL, steps=8))
    assert (tmp_path / "prior" / "training.json").read_text() == before


def test_a_file_is_no_folder_for_a_prior(tmp_path: Path) -> None:
    (tmp_path / "prior").write_text("something else")
    with pytest.raises(FileError, match=r"prior is a file; give a folder for the prior\.$"):
        run(tmp_path / "prior")


def test_resume_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        PriorError, match=r"^resume: checkpoint .*checkpoint\.pt does not exist; start without --resume\.$"
    ):
        run(tmp_path, resume=True)


def test_resume_with_other_settings(tmp_path: Path) -> None:
    started = train(tmp_path, SMALL, every=QUICK)
    next(started)
    started.close()
    others: list[dict[str, Any]] = [{"width": 16}, {"seed": 9}, {"batch": 3}]
    for changes in others:
        (name, value), *_ = changes.items()
        with pytest.raises(PriorError, match=rf"^resume: {name} must be .* as in .*, got {value}\.$"):
            run(tmp_path, replace(SMALL, **changes), resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"garbage")
    with pytest.raises(PriorError, match=r"checkpoint\.pt cannot be read \(.*\); delete it and start again\.$"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize(
    "fields",
    [
        *({name: 0} for name in ("steps", "batch", "size", "width", "patch_size", "warmup", "pool", "time_power")),
        *({"channels": 3}, {"ema": 2.0}, {"decay": -1.0}),
    ],
)
def test_impossible_settings(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(SettingsError, match=name):
        TrainingSettings(**fields)
