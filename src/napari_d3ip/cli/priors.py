"""Commands `priors ...`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_d3ip.cli.app import AsJson, command
from napari_d3ip.cli.output import description_lines, interruption, last_written
from napari_d3ip.cli.progress import show_progress
from napari_d3ip.errors import SettingsError
from napari_d3ip.prior.records import CHECKPOINT

if TYPE_CHECKING:
    from napari_d3ip.prior.train import TrainingProgress

group = typer.Typer(help="Diffusion priors: what is there, import from elsewhere, and training of new ones.")


@group.command("list")
def list_priors() -> None:
    """Name the priors shipped with the package and those installed by `priors import`."""
    from napari_d3ip.prior.library import available_priors

    for name in available_priors():
        print(name)


@group.command("info")
def prior_info(
    prior: Annotated[str, typer.Argument(metavar="PRIOR", help="Name, folder of a diffusers pipeline, or hub id.")],
    as_json: AsJson = False,
) -> None:
    """Say what a prior is: channels, size, schedule, range, origin, loss."""
    from napari_d3ip.prior.description import describe_prior
    from napari_d3ip.prior.loading import load_prior

    description = describe_prior(load_prior(prior))
    print(json.dumps(description) if as_json else "\n".join(description_lines(description)))


@command(group, "import")
@dataclass(frozen=True)
class ImportPrior:
    """Convert a guided-diffusion (ADM) checkpoint to a prior; the options are what the file does not say itself."""

    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Weights of a guided-diffusion U-Net: .pt or .safetensors.")
    ]
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Name to install it under, or a folder to write (./NAME, a path).")
    ]
    num_heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4
    num_head_channels: Annotated[int | None, typer.Option(min=1, help="Channels of a head, instead.")] = None
    new_attention_order: Annotated[
        bool, typer.Option("--new-attention-order", help="It was trained with use_new_attention_order.")
    ] = False
    schedule: Annotated[str, typer.Option(help="Noise schedule: linear or cosine.")] = "linear"
    diffusion_steps: Annotated[int, typer.Option(min=2, help="Steps it was trained with.")] = 1000
    rescale_timesteps: Annotated[
        bool, typer.Option("--rescale-timesteps", help="It was trained with rescale_timesteps.")
    ] = False
    low: Annotated[
        float | None, typer.Option(help="Its value of intensity 0 (default: -1; 0 for complex images).")
    ] = None
    high: Annotated[float, typer.Option(help="Its value of intensity 1.")] = 1.0
    image_size: Annotated[int, typer.Option(min=1, help="Height and width of the images it was trained on.")] = 256

    def run(self) -> None:
        """Import, and print what to check."""
        from napari_d3ip.prior.guided_diffusion import AttentionHeads
        from napari_d3ip.prior.importing import ImportOptions, import_guided_diffusion
        from napari_d3ip.prior.library import installed_path

        if self.schedule not in ("linear", "cosine"):
            raise SettingsError(f"schedule: '{self.schedule}' is not known; use linear or cosine.")
        options = ImportOptions(
            heads=AttentionHeads(self.num_heads, self.num_head_channels, self.new_attention_order),
            schedule="linear" if self.schedule == "linear" else "cosine",
            diffusion_steps=self.diffusion_steps,
            rescale_timesteps=self.rescale_timesteps,
            low=self.low,
            high=self.high,
            image_size=self.image_size,
        )
        made = import_guided_diffusion(self.checkpoint, installed_path(self.out), options)
        heads = f"heads of {self.num_head_channels} channels" if self.num_head_channels else f"{self.num_heads} heads"
        print(
            f"{self.out}: imported, image channels: {made.config.channels}. Not in the file, so check it: {heads}, "
            f"{self.schedule} schedule of {self.diffusion_steps} steps, images from {made.config.low:g} to "
            f"{made.config.high:g}."
        )


@command(group, "train")
@dataclass(frozen=True)
class TrainPrior:
    """Train a prior, on images of your own or on phantoms drawn on the fly.

    On images, or a function of your own, it starts from the shipped prior and ends by itself when the loss on held-out
    images no longer falls. What is not given is as usual.
    """

    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prior, a diffusers pipeline.")]
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More of --images.")] = None
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Volumes and images to learn from, files or folders: TIFF, zarr, npy, HDF5, NIfTI, DICOM.",
        ),
    ] = None
    zero: Annotated[
        float | None, typer.Option(help="Value where nothing is in the images (default: 0; DICOM in HU: -1000).")
    ] = None
    phantoms: Annotated[
        str | None,
        typer.Option(
            help="ellipses (default); mixed: grains, strips, polygons, fibres and textures, too; or a function of "
            "your own, package.module:function or FILE.py:function, from a random generator to a slice."
        ),
    ] = None
    initial: Annotated[
        str, typer.Option(help="Prior to start from; auto: the shipped one for data of your own, else none.")
    ] = "auto"
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps at most.")] = None
    minutes: Annotated[float | None, typer.Option(help="End after so long if the steps are not done by then.")] = None
    patience: Annotated[
        int | None, typer.Option(min=1, help="End when the held-out loss fell by less than 1 % in so many steps.")
    ] = None
    replay: Annotated[
        float | None, typer.Option(help="Fraction of ellipses among the images, to keep what the shipped prior knew.")
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step.")] = None
    size: Annotated[int | None, typer.Option(min=8, help="Height and width of the images in pixels.")] = None
    width: Annotated[int | None, typer.Option(min=8, help="Channels of the network's first level.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, images and noise.")] = None
    channels: Annotated[
        int | None, typer.Option(min=1, max=2, help="1: real images; 2: complex images with smooth phase.")
    ] = None
    pool: Annotated[
        int | None, typer.Option(min=1, help="Draw images for so many steps at once; 8 or more on a GPU.")
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in OUT.")] = False

    def run(self) -> None:
        """Train, and print for how long and with what gain."""
        marks: list[tuple[float, int]] = []
        checkpoint = self.out / CHECKPOINT
        older = None if self.resume else last_written(checkpoint)
        try:
            with show_progress() as show:
                for state in self._train():
                    if not marks:
                        print(*state.notes, sep="\n", end="\n" if state.notes else "", file=sys.stderr)
                    marks.append((time.monotonic(), state.step))
                    show(_phase(state), state.step, state.total, _remaining(marks, state.total))
        except KeyboardInterrupt:
            raise interruption(checkpoint, older) from None
        print(f"{self.out}: {_outcome(state)}")

    def _train(self) -> Iterator[TrainingProgress]:
        from napari_d3ip.prior.own_prior import iter_train_prior
        from napari_d3ip.prior.training_settings import TrainingSettings

        if self.more and not self.images:
            raise SettingsError(f"images: {self.more[0]} was given without --images; put --images before it.")
        given = {each.name: getattr(self, each.name, None) for each in fields(TrainingSettings)}
        given = {name: value for name, value in given.items() if value is not None and name != "phantoms"}
        return iter_train_prior(
            self.out,
            images=[*(self.images or ()), *(self.more or ())],
            phantoms=self.phantoms or (None if self.images else "ellipses"),
            initial=None if self.initial == "none" else self.initial,
            device=self.device,
            resume=self.resume,
            **given,
        )


def _phase(state: TrainingProgress) -> str:
    if state.best is None:
        return f"training, loss {state.loss:.4f}"
    return f"training, loss {state.loss:.4f}, on held-out images {state.best.held_out_loss:.4f}"


def _outcome(state: TrainingProgress) -> str:
    """Say for how many steps it was trained, and what the held-out loss became."""
    trained = f"trained for {state.step} steps"
    if state.best is None or state.start_loss is None:
        return f"{trained}."
    losses = f"loss on held-out images from {state.start_loss:.4f} to {state.best.held_out_loss:.4f}"
    is_gain = state.best.held_out_loss < state.start_loss
    return f"{trained}, {losses}." if is_gain else f"{trained}; nothing was better than the prior it started from."


def _remaining(marks: list[tuple[float, int]], total: int) -> float | None:
    """Seconds to ``total`` at the pace between the first and the last (time, step)."""
    (began, first), (now, step) = marks[0], marks[-1]
    return (now - began) / (step - first) * (total - step) if step > first else None
