"""Settings of a reconstruction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.files import read_json
from napari_d3ip.settings.kinds import KINDS, Task
from napari_d3ip.settings.methods import COMMON, METHODS
from napari_d3ip.settings.presets import PAPER_MRI, PRESETS, Preset

MOST_RANK, MOST_SEED = 256, 2**31
# Settings of earlier versions, which recorded results still have, with the value at which they change nothing.
_RETIRED = {"adapt_groups": 1, "group_by": "position", "tv_huber": 0.0, "meta_decay": False}
Backend = Literal["auto", "matrix", "on-the-fly", "torch-radon"]


class Settings(BaseModel):
    """Settings of a reconstruction.

    Fields left at ``None`` are chosen from the scan (`napari_d3ip.reconstruction.resolve.resolve`); results carry the
    values used.

    Raises
    ------
    SettingsError
        Naming the field, what was given and what is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    method: str = Field(
        "d3ip",
        description="Reconstruction method.",
        json_schema_extra=lambda schema: schema.update(enum=list(METHODS)),
    )
    preset: Preset = Field("default", description="Named set of defaults; fields given explicitly win.")
    task: Task = Field(
        "auto",
        description="What the scan lacks, which decides what settings left open become: views (sparse-view), "
        "directions (limited-angle) or lines of k-space (accelerated-mri); auto: by the scan.",
    )
    prior: str = Field(
        "auto",
        min_length=1,
        description="Shipped or installed prior, folder of a diffusers pipeline, or a hub model in the local cache; "
        "auto: the shipped one that suits the scan.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="Compute device.")
    seed: int = Field(0, ge=0, lt=MOST_SEED, description="Seed of every random number.")
    backend: Backend = Field(
        "auto",
        description="Projector of tomography: a stored matrix, the same made on the fly in little memory, or the "
        "torch-radon package (CUDA); auto: the matrix unless it takes more than 2 GB.",
    )

    coupling: Literal["tv3d", "tgv", "tv-z", "none"] = Field(
        "tv3d",
        description="Regularizer inside data consistency: total variation in 3D, total generalised variation in 3D "
        "(which leaves slopes alone), total variation along z only (the paper's MBIR), or none.",
    )
    nonnegative: bool | None = Field(
        None,
        description="Keep the volume non-negative (attenuation, density); from the data if not given, and kept where "
        "directions are missing.",
    )
    remove_phase: bool = Field(
        True, description="Take the smooth phase of the image, from the centre of k-space, into the coil maps."
    )
    phase_constraint: float | None = Field(
        None,
        ge=0,
        description="Weight of the squared imaginary part that is left after remove_phase (at unit norm); from the "
        "data if not given, 0 in tv.",
    )
    calibration_width: int | None = Field(
        None, ge=4, description="Width of the centre of k-space that coil maps are made from; as sampled if not given."
    )
    virtual_coils: int = Field(24, ge=1, description="Compress more coils than this to so many virtual ones.")
    noise_level: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of the noise in the measurement's units (root mean square of complex noise); "
        "as the file says or estimated if not given.",
    )
    tv_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of total variation, or of tgv or mbir, at unit operator norm and intensity; from the data "
        "if not given.",
    )
    wavelet_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of the wavelet coefficients in l1-wavelet, as tv_weight; from the data if not given.",
    )
    tv_factor: float | None = Field(
        None,
        ge=0,
        description="Weight of total variation inside sampling, in multiples of tv_weight; by the kind of measurement "
        "if not given.",
    )
    wavelet_factor: float | None = Field(
        None,
        ge=0,
        description="Weight of wavelet coefficients inside sampling (coupling tv3d), in multiples of tv_weight; "
        "beside them total variation has half its weight; from the data if not given.",
    )
    iterations: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Iterations of l1-wavelet; upper limit for cg and sense, which held-out rays end, and for tv, "
        "tgv and mbir, which end once they have settled; by method and scan if not given.",
    )
    start_iterations: int | None = Field(
        None, ge=1, le=10000, description="Iterations of the first reconstruction; by the scan if not given."
    )

    network_steps: int = Field(
        600, ge=1, le=100000, description="Optimizer steps of dip, dip-tv and self-diffusion in all."
    )

    steps: int | None = Field(
        None, ge=1, le=999, description="Sampling steps (network evaluations per slice); by task if not given."
    )
    start_t: int | None = Field(
        None, ge=1, le=999, description="Diffusion time where sampling starts; by task if not given."
    )
    start_from: Literal["tv", "cg", "fbp", "noise"] = Field(
        "tv",
        description="First reconstruction, which is then noised, or noise alone (tv: by the regulariser; fbp: the "
        "direct method of the kind of measurement).",
    )
    eta: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of fresh noise in a sampling step (1: all, 0: DDIM); by method and scan if not given.",
    )
    noise_correlation: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Correlation of the noise between neighbouring slices; by method and scan if not given.",
    )
    planes: Literal["auto", "axial", "all"] = Field(
        "auto", description="Slices that the prior denoises: axial ones, or those along all three axes and their mean."
    )
    admm_steps: int = Field(10, ge=1, le=200, description="ADMM iterations of data consistency per sampling step.")
    final_admm_steps: int = Field(
        60, ge=1, le=1000, description="ADMM iterations of data consistency in the last sampling step."
    )
    cg_steps: int = Field(3, ge=1, le=200, description="Conjugate gradient iterations of data consistency.")
    proximal_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of staying close to the denoised image in data consistency (at unit norm); by the kind "
        "of measurement and its noise if not given.",
    )
    batch_slices: int = Field(16, ge=1, description="Slices per network evaluation; lower it to save memory.")

    adapt_steps: int | None = Field(
        None, ge=1, le=1000, description="Adaptation steps L before each sampling step; by the scan if not given."
    )
    adapt_every: int | None = Field(
        None, ge=1, description="Adapt before every n-th sampling step; by the scan and the preset if not given."
    )
    adapt_slices: int = Field(3, ge=1, description="Monte Carlo slices K per adaptation step.")
    adapt_loss: Literal["fidelity", "scales", "both", "equivariance"] | None = Field(
        None,
        description="What adaptation lowers: the residual of the data (fidelity, the paper's), the denoising loss on "
        "the volume itself seen at coarser scales (scales), both, or what the scanner does to turned slices of the "
        "volume (equivariance); by the scan if not given.",
    )
    adapt_leave_out: float | None = Field(
        None,
        ge=0,
        le=0.8,
        description="Measurement splitting: fraction of the views or lines that are left out of data consistency "
        "inside the adaptation loss and are its target (0: all are in both); by the scan if not given.",
    )
    adapt_pattern: Literal["adjacent", "interleaved"] | None = Field(
        None,
        description="Which views or lines adapt_leave_out leaves out: a run of neighbours, or every n-th; by the scan "
        "if not given.",
    )
    adapt_splits: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Training splits: slabs of slices that are reconstructed without their target views or lines, for "
        "the loss to start from (0: it starts from the volume itself); by the scan if not given.",
    )
    adapt_admm_steps: int | None = Field(
        None, ge=1, le=50, description="ADMM iterations inside the adaptation loss; by the scan if not given."
    )
    adapt_cg_steps: int | None = Field(
        None,
        ge=1,
        le=50,
        description="Conjugate gradient iterations inside the adaptation loss; by the scan if not given.",
    )
    adapt_biases: bool = Field(False, description="Adapt the biases of the adapted layers too.")
    adapt_layers: Literal["all", "attention", "residual"] = Field(
        "all", description="Blocks of the network whose layers get adapters."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Learning rate of adaptation (AdamW); by the scan if not given."
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        description="Folder of adapters saved by an earlier run: where adaptation starts, or what a method that does "
        "not adapt samples with.",
    )
    meta_groups: int = Field(
        4, ge=1, description="Groups of adjacent slices that d3ip-meta learns from one after the other in each round."
    )
    meta_rate: float = Field(
        0.1, gt=0, le=1, description="Part beta of the way to a group's adapters that d3ip-meta goes (1: all of it)."
    )
    refine_steps: int = Field(
        0,
        ge=0,
        le=1000,
        description="Steps on every single slice from the volume's adapters, before it is denoised (0: none).",
    )
    refine_slices: str = Field(
        ":", pattern=r"^(-?\d+)?:(-?\d+)?$", description="Slices that refine_steps apply to, as first:last+1 (:, all)."
    )
    guidance: float = Field(1.0, gt=0, description="Step size of dps along the gradient of the residual.")
    lora_rank: int = Field(4, ge=1, le=MOST_RANK, description="Rank of the low-rank adapters.")
    lora_ema: float = Field(0.9, ge=0, lt=1, description="Decay of the moving average of the adapters (0: none).")
    guard: bool = Field(
        True,
        description="Reject a round of adaptation that does not reduce the validation loss, and return the first "
        "reconstruction unless the volume explains validation data clearly better.",
    )
    held_out_fraction: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Fraction of rays or k-space samples held out of the reconstruction for validation; direct "
        "methods use them all.",
    )
    held_out_views: int = Field(
        0, ge=0, description="Leave every n-th projection out of the reconstruction (0: none)."
    )

    if not TYPE_CHECKING:  # Which knows the fields by themselves.

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise SettingsError(_sentence(error.errors()[0])) from error

    @model_validator(mode="wrap")
    @classmethod
    def _apply_preset(cls, values: Any, validated: ModelWrapValidatorHandler[Settings]) -> Settings:
        preset = values.get("preset", "default") if isinstance(values, dict) else None
        if not isinstance(preset, str):
            return validated(values)
        values = {name: value for name, value in values.items() if name not in _RETIRED or value != _RETIRED[name]}
        settings = validated({**PRESETS.get(preset, {}), **values})
        # What was given, not what the preset added: for k-space that can still become another value.
        settings.model_fields_set.intersection_update(values)
        return settings

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in METHODS:
            names = [f"'{name}'" for name in METHODS]
            known = f"{', '.join(names[:-1])} or {names[-1]}"
            raise PydanticCustomError("unknown_method", "Input should be {known}", {"known": known})
        return value

    @field_validator("prior", "adapter", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        """Return a path as text."""
        return str(value) if isinstance(value, Path) else value

    @field_validator("start_t")
    @classmethod
    def _steps_fit(cls, start_t: int | None, info: ValidationInfo) -> int | None:
        steps = info.data.get("steps")
        method = METHODS.get(info.data.get("method", ""))
        sampled = method is not None and method.needs_prior
        if sampled and start_t is not None and steps is not None and start_t < steps:
            raise PydanticCustomError(
                "steps_do_not_fit",
                "steps: {steps} do not fit below start_t {start_t}; lower steps.",
                {"steps": steps, "start_t": start_t},
            )
        return start_t

    @classmethod
    def create(cls, values: dict[str, Any] | None = None, **fields: Any) -> Settings:
        """Create settings from a mapping, and from fields that win over it.

        Raises
        ------
        SettingsError
            Naming the field, what was given and what is allowed.
        """
        return cls(**{**(values or {}), **fields})

    @classmethod
    def from_preset(cls, preset: str, kind: str, fields: dict[str, Any] | None = None) -> Settings:
        """Return the values of a preset for a kind of measurement, with some fields given.

        Raises
        ------
        SettingsError
            See `create`.
        """
        usual = PAPER_MRI if preset == "paper" and kind == "kspace" else {}
        return cls.create({**usual, "preset": preset, **(fields or {})})

    @classmethod
    def load(cls, path: str | Path) -> dict[str, Any]:
        """Read a settings file: the values it gives, to be passed to `create`.

        Raises
        ------
        SettingsError
            If the file is missing or not a JSON object.
        """
        try:
            values = read_json(Path(path))
        except FileError as error:
            raise SettingsError(f"settings: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f"settings: {path} must hold one JSON object of settings.")
        return values

    def updated(self, **fields: Any) -> Settings:
        """Return a copy with some fields changed, validated."""
        return Settings.create(self.model_dump(exclude_unset=True), **fields)


def fields_for(kind: str, method: str) -> tuple[str, ...]:
    """Return the names of the settings that apply to a kind of measurement and a method."""
    excluded, own = KINDS[kind].excluded, (*COMMON, *METHODS[method].fields)
    return tuple(name for name in Settings.model_fields if name not in excluded and name in own)


def parse_slices(text: str) -> slice:
    """Parse a setting like ``"8:24"``, ``":5"`` or ``":"``."""
    first, last = (int(part) if part else None for part in text.split(":"))
    return slice(first, last)


def validation_errors(values: dict[str, Any]) -> dict[str, str]:
    """Return a sentence for each field that is not possible; none if `Settings` takes them."""
    try:
        Settings(**values)
    except SettingsError as error:
        cause = error.__cause__
        found = cause.errors() if isinstance(cause, ValidationError) else []
        return {_field(details): _sentence(details) for details in found}
    return {}


def _field(details: ErrorDetails) -> str:
    return ".".join(str(part) for part in details["loc"]) or "settings"


def _sentence(details: ErrorDetails) -> str:
    name, reason = _field(details), details["msg"]
    if details["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{name}: there is no such setting; known are {known}."
    if details["type"] == "steps_do_not_fit":
        return reason
    given = "nothing" if details["input"] is None else repr(details["input"])
    return f"{name}: {given} is not possible: {reason[0].lower()}{reason[1:]}."
