"""Draw the pictures of a prior's model card: ``python scripts/make_model_card.py FOLDER``.

Writes ``samples.png`` (phantoms it was trained on above images it draws from noise) and ``loss.png`` (training and
held-out loss) into FOLDER, from the weights and ``training*.json`` there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from napari_d3ip.prior.description import draw_samples
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.phantoms import phantoms_of


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    prior = load_prior(arguments.folder)
    recorded = json.loads((arguments.folder / "training.json").read_text())["settings"]
    kind = recorded.get("phantoms", "ellipses")
    phantoms = phantoms_of(kind, prior.config.channels, 64).draw(8, torch.Generator().manual_seed(1))
    rows = {
        "phantoms": phantoms,
        "drawn from noise by the prior (DDIM, 100 steps)": draw_samples(prior, 8, 64, steps=100),
    }
    if prior.config.channels == 2:
        rows = {
            f"{part} of {title}": function(torch.complex(images[:, 0], images[:, 1]))[:, None]
            for title, images in rows.items()
            for part, function in (("magnitude", torch.abs), ("phase", torch.angle))
        }
    figure = Figure(figsize=(12, 1.75 * len(rows)))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.16 / len(rows), wspace=0.05, hspace=0.2)
    axes = figure.subplots(len(rows), 8)
    for row, (title, images) in zip(axes, rows.items(), strict=True):
        row[0].set_title(title, loc="left")
        shown = {"cmap": "twilight", "vmin": -torch.pi, "vmax": torch.pi} if "phase" in title else {"cmap": "gray"}
        for axis, image in zip(row, images[:, 0], strict=True):
            axis.imshow(image, **{"vmin": 0, "vmax": 1, **shown})
            axis.set_axis_off()
    figure.savefig(arguments.folder / "samples.png", dpi=80)

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    offset = 0
    for record in sorted(
        arguments.folder.glob("training*.json"), key=lambda path: (path.stem == "training", path.stem)
    ):
        run = json.loads(record.read_text())
        curve = run["curve"]
        steps = [offset + point["step"] for point in curve]
        label = {} if offset else {"loss": "training", "held_out_loss": "held-out phantoms"}
        for key, color in (("loss", "0.6"), ("held_out_loss", "C0")):
            if key == "loss" and run["settings"].get("time_power", 1) != 1:
                continue  # The mean over other times is another quantity.
            axis.plot(steps, [point[key] for point in curve], "o-", color=color, markersize=3, label=label.get(key))
        offset = steps[-1]
    axis.set(xlabel="step", ylabel="mean epsilon loss", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(arguments.folder / "loss.png", dpi=90)


if __name__ == "__main__":
    main()
