"""Training of a tiny prior: it learns, writes a pipeline folder, and resumes to the same weights bit by bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet, linear_schedule, load_prior
from napari_d3ip.prior.phantoms import EllipsePhantoms
from napari_d3ip.prior.train import TrainingProgress, TrainingSettings, epsilon_loss, held_out_loss, train

SMALL = TrainingSettings(steps=12, batch=4, size=16, width=8, warmup=4, ema=0.9, learning_rate=2e-3)


def quick(prior: DiffusionPrior, size: int) -> float:
    return held_out_loss(prior, size, count=8, batch=8)


def run(folder: Path, settings: TrainingSettings = SMALL, *, resume: bool = False) -> list[TrainingProgress]:
    return list(train(folder, settings, resume=resume, report_every=4, checkpoint_every=4, evaluate=quick))


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
    held_out = [each.held_out_loss for each in progress]
    assert None not in held_out
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
    assert quick(prior, 16) == pytest.approx(held_out[-1], rel=1e-2)


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    interrupted = train(tmp_path / "parts", SMALL, report_every=4, checkpoint_every=4, evaluate=quick)
    for progress in interrupted:
        if progress.step == 8:
            break
    interrupted.close()
    assert not (tmp_path / "parts" / "model_index.json").exists()
    torch.rand(5)  # The global generator plays no part.
    assert [each.step for each in run(tmp_path / "parts", resume=True)] == [12]
    whole, parts = load_prior(tmp_path / "whole"), load_prior(tmp_path / "parts")
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weight, rtol=0, atol=0)


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


def test_resume_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PriorError, match=r"^resume: there is no .*checkpoint\.pt; start without --resume\.$"):
        run(tmp_path, resume=True)


def test_resume_with_another_network(tmp_path: Path) -> None:
    started = train(tmp_path, SMALL, report_every=4, checkpoint_every=4, evaluate=quick)
    next(started)
    started.close()
    with pytest.raises(
        PriorError, match=r"checkpoint\.pt holds another network; give the same width and patch size\.$"
    ):
        run(tmp_path, replace(SMALL, width=16), resume=True)
