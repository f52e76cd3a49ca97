"""Presets of the settings."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["default", "fast", "best", "paper"]
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
