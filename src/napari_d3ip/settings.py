"""One settings object for the widget, the command line and scripts: validated, documented, JSON in and out.

Pydantic only: importing this loads neither torch nor Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

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

Method = Literal[
    "direct",
    "fbp",
    "cg",
    "zero-filled",
    "sense",
    "l1-wavelet",
    "tv",
    "tgv",
    "dip",
    "dip-tv",
    "self-diffusion",
    "dds",
    "ddnm",
    "diffpir",
    "dps",
    "scd",
    "ddip",
    "d3ip",
    "d3ip-mbir",
    "d3ip-meta",
]
METHODS: tuple[str, ...] = get_args(Method)
Task = Literal["auto", "sparse-view", "limited-angle", "accelerated-mri", "images"]
MOST_RANK, MOST_SEED = 256, 2**31
DIRECT_METHODS = ("direct", "fbp", "zero-filled")
LEAST_SQUARES_METHODS = ("cg", "sense")
# Networks of random weights: no prior.
UNTRAINED_METHODS = ("dip", "dip-tv", "self-diffusion")
# Methods that adapt every slice by itself, and those that adapt the volume as a whole.
SLICEWISE_METHODS = ("scd", "ddip")
VOLUME_METHODS = ("d3ip", "d3ip-mbir", "d3ip-meta")
ADAPTIVE_METHODS = (*SLICEWISE_METHODS, *VOLUME_METHODS)
DIFFUSION_METHODS = ("dds", "ddnm", "diffpir", "dps", *ADAPTIVE_METHODS)
_NOT_IMAGES = ("fbp", "zero-filled", "sense", "l1-wavelet", *UNTRAINED_METHODS)
# Methods that do not reconstruct from a kind of measurement.
_OTHER_KIND = {
    "sinogram": ("direct", "zero-filled", "sense", "l1-wavelet"),
    "kspace": ("direct", "fbp", "cg"),
    "stack": _NOT_IMAGES,
    "linear": _NOT_IMAGES,
}
_MRI_FIELDS = (
    "wavelet_weight",
    "wavelet_factor",
    "remove_phase",
    "phase_constraint",
    "calibration_width",
    "virtual_coils",
)
_NOT_IMAGE_FIELDS = (*_MRI_FIELDS, "backend", "held_out_views", "adapt_leave_out", "adapt_pattern", "adapt_splits")
# What a scan lacks, by its kind.
_TASKS: dict[str, tuple[Task, ...]] = {
    "sinogram": ("auto", "sparse-view", "limited-angle"),
    "kspace": ("auto", "accelerated-mri"),
    "stack": ("auto", "images"),
    "linear": ("auto", "images"),
}
# Settings that mean nothing for a kind of measurement.
_FIELDS_OF_OTHER_KIND = {
    "sinogram": _MRI_FIELDS,
    "kspace": ("nonnegative", "held_out_views", "backend"),
    "stack": _NOT_IMAGE_FIELDS,
    "linear": _NOT_IMAGE_FIELDS,
}
_REGULARISED_METHODS = ("tv", "tgv", *DIFFUSION_METHODS)
# Those whose data consistency is the regularised solver.
COUPLED_METHODS = ("dds", *ADAPTIVE_METHODS)
COUPLED_IN_3D = ("tv3d", "tgv")
# Settings that mean something for some methods only; the others do for all.
_METHODS_OF_FIELDS: dict[str, tuple[str, ...]] = {
    # The others take all that was measured.
    "held_out_fraction": tuple(method for method in METHODS if method not in DIRECT_METHODS),
    "nonnegative": (*UNTRAINED_METHODS, *_REGULARISED_METHODS),
    "remove_phase": ("l1-wavelet", *UNTRAINED_METHODS, *_REGULARISED_METHODS),
    "phase_constraint": _REGULARISED_METHODS,
    **dict.fromkeys(("tv_weight", "tv_huber"), ("dip-tv", *_REGULARISED_METHODS)),
    "network_steps": UNTRAINED_METHODS,
    "batch_slices": (*UNTRAINED_METHODS, *DIFFUSION_METHODS),
    "adapt_slices": (*UNTRAINED_METHODS, *VOLUME_METHODS),
    "wavelet_weight": ("l1-wavelet",),
    "iterations": (*LEAST_SQUARES_METHODS, "l1-wavelet", "tv", "tgv"),
    "planes": tuple(method for method in DIFFUSION_METHODS if method != "dps"),
    "coupling": tuple(method for method in COUPLED_METHODS if method != "d3ip-mbir"),
    "guidance": ("dps",),
    **dict.fromkeys(
        (
            "task",
            "prior",
            "start_iterations",
            "steps",
            "start_t",
            "start_from",
            "eta",
            "noise_correlation",
            "adapter",
            "guard",
        ),
        DIFFUSION_METHODS,
    ),
    **dict.fromkeys(
        ("tv_factor", "wavelet_factor", "admm_steps", "final_admm_steps", "cg_steps", "proximal_weight"),
        COUPLED_METHODS,
    ),
    **dict.fromkeys(
        (
            "adapt_steps",
            "adapt_every",
            "adapt_loss",
            "adapt_leave_out",
            "adapt_pattern",
            "adapt_admm_steps",
            "adapt_cg_steps",
            "adapt_biases",
            "adapt_layers",
            "learning_rate",
            "lora_rank",
            "lora_ema",
        ),
        ADAPTIVE_METHODS,
    ),
    **dict.fromkeys(("adapt_splits", "adapt_groups", "group_by", "refine_steps", "refine_slices"), VOLUME_METHODS),
    **dict.fromkeys(("meta_groups", "meta_rate", "meta_decay"), ("d3ip-meta",)),
}
Preset = Literal["default", "fast", "best", "paper"]
Backend = Literal["auto", "matrix", "on-the-fly", "torch-radon"]

# Section 4 of Chung & Ye, ECCV 2024, and the official code (CT settings).
_PAPER: dict[str, Any] = {
    "coupling": "none",
    "start_from": "fbp",
    "start_t": 980,
    "steps": 50,
    "eta": 0.85,
    "noise_correlation": 0.0,
    "nonnegative": False,
    "planes": "axial",
    "admm_steps": 5,
    "final_admm_steps": 5,
    "cg_steps": 5,
    "proximal_weight": 0.0,
    "adapt_steps": 10,
    "adapt_every": 1,
    "adapt_slices": 3,
    "adapt_loss": "fidelity",
    "adapt_leave_out": 0.0,
    "adapt_pattern": "adjacent",
    "adapt_splits": 0,
    "adapt_admm_steps": 1,
    "adapt_cg_steps": 1,
    "adapt_biases": True,
    "learning_rate": 1e-3,
    "lora_rank": 4,
    "lora_ema": 0.0,
    "guard": False,
    "held_out_fraction": 0.0,
    "remove_phase": False,
}
# What the same paper does otherwise for MRI: the start is noise and data consistency is proximal with weight
# gamma = 5 on the data, that is 1 / 5 on staying close.
PAPER_MRI: dict[str, Any] = {"start_from": "noise", "start_t": 999, "adapt_steps": 5, "proximal_weight": 0.2}
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": {"planes": "axial"},
    "best": {"adapt_steps": 40},
    "paper": _PAPER,
}


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

    method: Method = Field("d3ip", description="Reconstruction method.")
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
        description="Regulariser inside data consistency: total variation in 3D, total generalised variation in 3D "
        "(which leaves slopes alone), total variation along z only (the paper's MBIR), or none.",
    )
    nonnegative: bool = Field(True, description="Keep the volume non-negative (attenuation, density).")
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
    virtual_coils: int = Field(12, ge=1, description="Compress more coils than this to so many virtual ones.")
    noise_level: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of the noise in the measurement's units (root mean square of complex noise); "
        "as the file says or estimated if not given.",
    )
    tv_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of total variation, or of tgv, at unit operator norm and intensity; from the data if not "
        "given.",
    )
    tv_huber: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Jumps below this (in intensity, 1 is about the brightest) are smoothed instead of flattened "
        "by total variation (Huber's function).",
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
        description="Iterations of l1-wavelet; upper limit for cg and sense, which held-out rays end, and for tv and "
        "tgv, which end once they have settled; by method and scan if not given.",
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
        description="Fraction of the views or lines that are left out of data consistency inside the adaptation loss, "
        "which is taken on them (0: all are in both); by the scan if not given.",
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
        description="Runs of adjacent slices that are reconstructed without what adapt_leave_out leaves out, for "
        "the loss to start from what has not seen it (0: it starts from the volume itself); by the scan if not given.",
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
    adapt_groups: int = Field(
        1, ge=1, description="Groups of slices with adapters of their own (1: the paper's one set for the volume)."
    )
    group_by: Literal["position", "similarity"] = Field(
        "position", description="What slices of a group share: their place along z, or what they look like."
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
    meta_decay: bool = Field(False, description="Let meta_rate fall linearly to 0 over the sampling steps.")
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
        description="Undo an adaptation that does not lower the loss on views hidden from slices that are kept for "
        "this, or on held-out rays where nothing is hidden; and return the first reconstruction where the volume "
        "explains such data clearly worse.",
    )
    held_out_fraction: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="Fraction of rays or k-space samples kept out of the reconstruction to judge it; direct methods "
        "use them all.",
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
        settings = validated({**PRESETS.get(preset, {}), **values})
        # What was given, not what the preset added: for k-space that can still become another value.
        settings.model_fields_set.intersection_update(values)
        return settings

    @field_validator("prior", "adapter", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        """Text of a path."""
        return str(value) if isinstance(value, Path) else value

    @field_validator("start_t")
    @classmethod
    def _steps_fit(cls, start_t: int | None, info: ValidationInfo) -> int | None:
        steps = info.data.get("steps")
        sampled = info.data.get("method") in DIFFUSION_METHODS
        if sampled and start_t is not None and steps is not None and start_t < steps:
            raise PydanticCustomError(
                "steps_do_not_fit",
                "steps: {steps} do not fit below start_t {start_t}; lower steps.",
                {"steps": steps, "start_t": start_t},
            )
        return start_t

    def adapts_before(self, index: int) -> bool:
        """Whether the prior is adapted before the sampling step ``index``, counted from 0."""
        return self.method in ADAPTIVE_METHODS and index % (self.adapt_every or 1) == 0

    @classmethod
    def create(cls, values: dict[str, Any] | None = None, **fields: Any) -> Settings:
        """Settings of a mapping, and of fields that win over it.

        Raises
        ------
        SettingsError
            Naming the field, what was given and what is allowed.
        """
        return cls(**{**(values or {}), **fields})

    @classmethod
    def of_preset(cls, preset: str, kind: str, fields: dict[str, Any] | None = None) -> Settings:
        """What a preset means for a kind of measurement, ``"sinogram"`` or ``"kspace"``, with some fields given.

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
        """Copy with some fields changed, validated."""
        return Settings.create(self.model_dump(exclude_unset=True), **fields)


def methods_for(kind: str) -> tuple[str, ...]:
    """Methods that apply to a kind of measurement: ``"sinogram"``, ``"kspace"``, ``"stack"`` or ``"linear"``."""
    return tuple(method for method in METHODS if method not in _OTHER_KIND[kind])


def tasks_for(kind: str) -> tuple[Task, ...]:
    """Tasks of a kind of measurement, ``"sinogram"`` or ``"kspace"``."""
    return _TASKS[kind]


def fields_for(kind: str, method: str) -> tuple[str, ...]:
    """Settings that apply to a kind of measurement, as in `methods_for`, and a method."""
    return tuple(
        name
        for name in Settings.model_fields
        if name not in _FIELDS_OF_OTHER_KIND[kind] and method in _METHODS_OF_FIELDS.get(name, METHODS)
    )


def parse_slices(text: str) -> slice:
    """Slice object of a setting like ``"8:24"``, ``":5"`` or ``":"``."""
    first, last = (int(part) if part else None for part in text.split(":"))
    return slice(first, last)


def problems(values: dict[str, Any]) -> dict[str, str]:
    """What is wrong with settings: a sentence for each field that is not possible, none if `Settings` takes them."""
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
