"""Draw the pictures of a prior's model card: ``python scripts/make_model_card.py FOLDER``.

Writes ``samples.png`` (phantoms it was trained on above images it draws from noise) and ``loss.png`` (training and
held-out loss) into FOLDER, from the weights and ``training*.json`` there.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure

from napari_d3ip.prior.network import DiffusionPrior, load_prior
from napari_d3ip.prior.phantoms import EllipsePhantoms


@torch.no_grad()
def draw(prior: DiffusionPrior, count: int, size: int, steps: int = 100, seed: int = 0) -> torch.Tensor:
    """Images from noise by deterministic DDIM, shape (count, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((count, 1, size, size), generator=generator)
    times = torch.linspace(prior.train_steps - 1, 0, steps + 1).long().tolist()
    for t, t_next in pairwise(times):
        epsilon = prior.epsilon(x, t)
        clean = prior.normalise(prior.tweedie(x, epsilon, t).clamp(0, 1))
        alpha_bar = prior.alphas_cumprod[t_next]
        x = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * epsilon
    return prior.denormalise(x)[:, 0].clamp(0, 1)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    prior = load_prior(arguments.folder)
    phantoms = EllipsePhantoms(64).draw(8, torch.Generator().manual_seed(1))[:, 0]
    figure = Figure(figsize=(12, 3.5))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.92, wspace=0.05, hspace=0.2)
    axes = figure.subplots(2, 8)
    for row, images in zip(axes, (phantoms, draw(prior, 8, 64)), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
    titles = ("phantoms", "drawn from noise by the prior (DDIM, 100 steps)")
    for row, title in zip(axes, titles, strict=True):
        row[0].set_title(title, loc="left")
    figure.savefig(arguments.folder / "samples.png", dpi=80)

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    offset = 0
    for record in sorted(
        arguments.folder.glob("training*.json"), key=lambda path: (path.stem == "training", path.stem)
    ):
        curve = json.loads(record.read_text())["curve"]
        steps = [offset + point["step"] for point in curve]
        label = {} if offset else {"loss": "training", "held_out_loss": "held-out phantoms"}
        for key, color in (("loss", "0.6"), ("held_out_loss", "C0")):
            axis.plot(steps, [point[key] for point in curve], "o-", color=color, markersize=3, label=label.get(key))
        offset = steps[-1]
    axis.set(xlabel="step", ylabel="mean epsilon loss", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(arguments.folder / "loss.png", dpi=90)


if __name__ == "__main__":
    main()
