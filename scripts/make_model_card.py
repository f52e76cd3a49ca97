"""Draw the pictures of the shipped prior's model card: ``python scripts/make_model_card.py FOLDER``.

Writes ``samples.png`` (phantoms it was trained on above images it draws from noise) and ``loss.png`` (training and
held-out loss) into FOLDER, from the weights and ``training*.json`` there, of one training or of several in sequence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from napari_d3ip.prior.description import draw_samples
from napari_d3ip.prior.generators import phantoms_of
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.model_card import draw_images, draw_losses, save_figure


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    prior = load_prior(folder)
    # training-1.json, training-2.json, ..., and then the last one.
    files = sorted(folder.glob("training*.json"), key=lambda path: (path.stem == "training", path.stem))
    records = [json.loads(file.read_text()) for file in files]
    kind = records[-1]["settings"].get("phantoms", "ellipses")
    phantoms = phantoms_of(kind, prior.config.channels, 64).draw(8, torch.Generator().manual_seed(1))
    drawn = draw_samples(prior, 8, 64, steps=100)
    rows = {"phantoms": phantoms, "drawn from noise by the prior (DDIM, 100 steps)": drawn}
    save_figure(draw_images(rows), folder / "samples.png")
    save_figure(draw_losses(records), folder / "loss.png")


if __name__ == "__main__":
    main()
