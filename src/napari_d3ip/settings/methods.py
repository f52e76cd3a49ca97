"""Methods, and the kinds of measurement, tasks and settings that each applies to."""

from __future__ import annotations

from typing import Literal, get_args

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
FIELDS_OF_OTHER_KIND = {
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
METHODS_OF_FIELDS: dict[str, tuple[str, ...]] = {
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


def methods_for(kind: str) -> tuple[str, ...]:
    """Methods that apply to a kind of measurement: ``"sinogram"``, ``"kspace"``, ``"stack"`` or ``"linear"``."""
    return tuple(method for method in METHODS if method not in _OTHER_KIND[kind])


def tasks_for(kind: str) -> tuple[Task, ...]:
    """Tasks of a kind of measurement, ``"sinogram"`` or ``"kspace"``."""
    return _TASKS[kind]
