"""Write the model card of a trained prior: what it learned from, its losses, and samples.

Reads the record of the training; no files of images, no scans.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_d3ip.io.atomic import replacing
from napari_d3ip.prior.description import draw_samples
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.records import TRAINING_RECORD, read_record
from napari_d3ip.prior.training_data import TrainingData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAMPLES = 6
_LARGEST = 128
_STEPS = 25


def write_model_card(prior: DiffusionPrior, folder: Path, data: TrainingData) -> None:
    """Write ``README.md``, ``loss.png`` and ``samples.png`` beside a prior and its ``training.json``.

    Raises
    ------
    FileError
        If one cannot be written.
    """
    record = read_record(folder / TRAINING_RECORD)
    images = data.training.draw(_SAMPLES, torch.Generator().manual_seed(1)).cpu()
    size = min(record["settings"]["size"], _LARGEST)
    drawn = draw_samples(prior, _SAMPLES, size, steps=_STEPS).cpu()
    save_figure(
        draw_images({"training images": images, "drawn from noise by the prior": drawn}), folder / "samples.png"
    )
    save_figure(draw_losses([record]), folder / "loss.png")
    with replacing(folder / "README.md") as part:
        part.write_text("\n".join(_lines(prior, folder.resolve().name, record)) + "\n", encoding="utf-8")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as PNG; an existing file is replaced only when the new one is complete."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=80)


def draw_images(rows: dict[str, Tensor]) -> Figure:
    """Draw rows of images, shapes (count, channels, size, size), with their titles; complex ones as two rows."""
    from matplotlib.figure import Figure

    rows = {title: images for name, values in rows.items() for title, images in _real(name, values).items()}
    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.5 * columns, 1.75 * len(rows)))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.16 / len(rows), wspace=0.05, hspace=0.2)
    for row, (title, images) in zip(figure.subplots(len(rows), columns), rows.items(), strict=True):
        row[0].set_title(title, loc="left")
        shown: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
        if title.startswith("phase"):
            shown = {"cmap": "twilight", "vmin": -torch.pi, "vmax": torch.pi}
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image.numpy(), **shown)
            axes.set_axis_off()
    return figure


def draw_losses(records: list[dict[str, Any]]) -> Figure:
    """Draw training and held-out loss over the steps of trainings, each of which went on from the last."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    offset = 0
    for record in records:
        curve, start = record["curve"], record.get("start") or {}
        steps = [offset + point["step"] for point in curve]
        label = {} if offset else {"loss": "training", "held_out_loss": "held-out images"}
        if record["settings"].get("time_power", 1) == 1:  # Else the mean over other times is another quantity.
            axes.plot(steps, [point["loss"] for point in curve], "o-", color="0.6", ms=3, label=label.get("loss"))
        held_out = [point["held_out_loss"] for point in curve]
        if "held_out_loss" in start:
            steps, held_out = [offset, *steps], [start["held_out_loss"], *held_out]
        axes.plot(steps, held_out, "o-", color="C0", ms=3, label=label.get("held_out_loss"))
        offset = steps[-1] if steps else offset
    axes.set(xlabel="step", ylabel="mean epsilon loss", yscale="log")
    axes.legend(frameon=False)
    return figure


def _real(name: str, images: Tensor) -> dict[str, Tensor]:
    if images.shape[1] == 1:
        return {name: images[:, 0]}
    values = torch.complex(images[:, 0], images[:, 1])
    return {f"magnitude of {name}": values.abs(), f"phase of {name}": values.angle()}


def _lines(prior: DiffusionPrior, name: str, record: dict[str, Any]) -> Iterator[str]:
    settings, start, best = record["settings"], record["start"] or {}, record["best"]
    curve = record["curve"]
    done, minutes = (curve[-1]["step"], curve[-1]["seconds"] / 60) if curve else (best["step"], 0.0)
    millions = sum(parameter.numel() for parameter in prior.parameters()) / 1e6
    kind = "complex images" if settings["channels"] == 2 else "grey images"
    yield f"# Model card: `{name}`\n"
    yield f"A 2D diffusion prior of {kind}, which napari-d3ip adapts to a scan. Not for diagnosis.\n"
    yield f"- **Network**: `diffusers` UNet2DModel, {millions:.2f} M parameters, float16; linear schedule, T = 1000."
    yield f"- **Start**: {'the prior `' + start['prior'] + '`' if start else 'random weights'}."
    yield from _data_lines(record["images"])
    yield (
        f"- **Training**: {done} steps of {settings['batch']} images of {settings['size']} × {settings['size']} "
        f"pixels in {minutes:.0f} minutes on {record['device']}; all settings are in `{TRAINING_RECORD}`."
    )
    if settings["replay"]:
        yield (
            f"- **Replay**: {settings['replay']:.0%} of the images were ellipses, as the shipped prior's; "
            f"loss on these {_from(start.get('known_loss'))}{record['known_loss']:.4f}."
        )
    yield (
        f"- **Held-out loss** (noise prediction, uniform times): {_from(start.get('held_out_loss'))}"
        f"{best['held_out_loss']:.4f} at step {best['step']}, whose moving-average weights these are."
    )
    yield "\n![Training and held-out loss](loss.png)\n![Training images, and images the prior draws](samples.png)"


def _data_lines(images: dict[str, Any]) -> Iterator[str]:
    if images["kind"] == "phantoms":
        digest = images.get("source_sha256")
        source = f" (file with SHA-256 `{digest}`)" if digest else ""
        yield f"- **Data**: phantoms drawn on the fly, `{images['phantoms']}`{source}; held out: another seed."
        return
    yield f"- **Data**: images of the user's own, divided {images['split']}; slices that are empty left out."
    for part, title in (("training", "training"), ("held_out", "held out")):
        for volume in images[part]:
            shape = " × ".join(str(length) for length in volume["shape"])
            yield f"  - {title}: {volume['name']}, {shape}, {volume['slices']} slices, SHA-256 `{volume['sha256']}`"


def _from(loss: float | None) -> str:
    return "" if loss is None else f"from {loss:.4f} to "
