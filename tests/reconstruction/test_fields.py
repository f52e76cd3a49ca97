"""Settings that are said not to apply change nothing, so that the form may leave them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_d3ip.measurement import ImageStack
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.settings import Settings, fields_for, methods_for

OTHER_VALUES: dict[str, Any] = {
    "prior": "nowhere",
    "coupling": "none",
    "nonnegative": False,
    "remove_phase": False,
    "phase_constraint": 3.0,
    "calibration_width": 4,
    "virtual_coils": 1,
    "tv_weight": 0.5,
    "wavelet_weight": 0.5,
    "wavelet_factor": 0.5,
    "tv_factor": 3.0,
    "network_steps": 7,
    "iterations": 2,
    "start_iterations": 2,
    "steps": 3,
    "start_t": 500,
    "start_from": "noise",
    "eta": 0.1,
    "noise_correlation": 0.0,
    "planes": "axial",
    "admm_steps": 1,
    "final_admm_steps": 1,
    "cg_steps": 1,
    "proximal_weight": 3.0,
    "batch_slices": 1,
    "adapt_steps": 3,
    "adapt_every": 2,
    "adapt_slices": 1,
    "adapt_loss": "scales",
    "adapt_leave_out": 0.5,
    "adapt_pattern": "adjacent",
    "adapt_splits": 2,
    "adapt_admm_steps": 2,
    "adapt_cg_steps": 2,
    "adapt_biases": True,
    "adapt_layers": "attention",
    "learning_rate": 0.1,
    "adapter": "nowhere",
    "meta_groups": 1,
    "meta_rate": 1.0,
    "refine_steps": 1,
    "refine_slices": "1:",
    "guidance": 3.0,
    "lora_rank": 1,
    "lora_ema": 0.0,
    "guard": False,
    "held_out_fraction": 0.3,
    "held_out_views": 3,
    "backend": "on-the-fly",
}
# Enough for a setting to have an effect.
FEW = {"adapt_steps": 1, "network_steps": 4, "iterations": 4, "start_iterations": 4}
OTHER_TASKS = {"sinogram": "limited-angle", "kspace": "accelerated-mri", "stack": "images"}


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((kind, method) for kind in ("sinogram", "kspace") for method in methods_for(kind)),
        *(("stack", method) for method in ("direct", "tgv", "d3ip")),
    ],
)
def test_what_does_not_apply_changes_nothing(
    make_scan: Callable[..., Any], mr_scan: Any, tiny: dict[str, Any], kind: str, method: str
) -> None:
    scan = make_scan(slices=2)
    stack = ImageStack(scan.reference, psf=np.ones((1, 3, 3), np.float32))
    measurement = {"sinogram": scan.measurement, "kspace": mr_scan.measurement, "stack": stack}[kind]
    others = set(Settings.model_fields) - set(fields_for(kind, method))
    settings = Settings.create({**tiny, **FEW}, method=method, wavelet_weight=0.01)
    volume = reconstruct(measurement, settings).volume
    values = {**OTHER_VALUES, "task": OTHER_TASKS[kind]}
    changed = reconstruct(measurement, settings.updated(**{name: values[name] for name in others})).volume
    np.testing.assert_allclose(changed, volume, atol=1e-4 * np.abs(volume).max())
