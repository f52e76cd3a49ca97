"""Commands `priors ...`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_d3ip.cli.app import AsJson, command
from napari_d3ip.cli.output import description_lines, interruption, last_written
from napari_d3ip.cli.progress import show_progress
from napari_d3ip.errors import SettingsError

if TYPE_CHECKING:
    from napari_d3ip.prior.training_settings import TrainingSettings

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
    """Train a prior on phantoms drawn on the fly; what is not given follows the shipped prior's recipe."""

    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prior, a diffusers pipeline.")]
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Phantoms a step.")] = None
    size: Annotated[int | None, typer.Option(min=8, help="Height and width of the phantoms in pixels.")] = None
    width: Annotated[int | None, typer.Option(min=8, help="Channels of the network's first level.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, phantoms and noise.")] = None
    channels: Annotated[
        int | None, typer.Option(min=1, max=2, help="1: real images; 2: complex images with smooth phase.")
    ] = None
    phantoms: Annotated[
        str | None, typer.Option(help="ellipses, or mixed: grains, strips, polygons, fibres and textures, too.")
    ] = None
    pool: Annotated[
        int | None, typer.Option(min=1, help="Draw phantoms for so many steps at once; 8 or more on a GPU.")
    ] = None
    minutes: Annotated[float | None, typer.Option(help="End after so long if the steps are not done by then.")] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in OUT.")] = False
    initial: Annotated[str | None, typer.Option(help="Start from the weights of this prior (name or folder).")] = None

    def run(self) -> None:
        """Train, and print for how long."""
        from napari_d3ip.device import resolve_device
        from napari_d3ip.prior.loading import load_prior
        from napari_d3ip.prior.train import train

        settings = self._settings()
        marks: list[tuple[float, int]] = []
        checkpoint = self.out / "checkpoint.pt"
        older = None if self.resume else last_written(checkpoint)
        try:
            with show_progress() as show:
                initial = None if self.initial is None else load_prior(self.initial)
                device = resolve_device(self.device)
                for state in train(self.out, settings, device=device, resume=self.resume, initial=initial):
                    marks.append((time.monotonic(), state.step))
                    show(f"training, loss {state.loss:.4f}", state.step, state.total, _remaining(marks, state.total))
        except KeyboardInterrupt:
            raise interruption(checkpoint, older) from None
        print(f"{self.out}: trained for {state.step} steps.")

    def _settings(self) -> TrainingSettings:
        """Return the usual settings with those that were given; options have the names of their settings."""
        from napari_d3ip.prior.training_settings import TrainingSettings

        given = {each.name: getattr(self, each.name, None) for each in fields(TrainingSettings)}
        return replace(TrainingSettings(), **{name: value for name, value in given.items() if value is not None})


def _remaining(marks: list[tuple[float, int]], total: int) -> float | None:
    """Seconds to ``total`` at the pace between the first and the last (time, step)."""
    (began, first), (now, step) = marks[0], marks[-1]
    return (now - began) / (step - first) * (total - step) if step > first else None
