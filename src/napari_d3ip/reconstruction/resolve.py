"""Resolution of a request: values of settings that are left open, by kind and directions of the scan.

Knows measurements, settings and folders of adapters; no torch, so that forms can say what a run will use before it
starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_d3ip.adaptation.folders import describe_adapter, settings_of_adapter
from napari_d3ip.errors import PriorError, SettingsError
from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.operators.backends import Extent, fitting_backend
from napari_d3ip.prior.library import SHIPPED, find_prior, train_steps
from napari_d3ip.settings import KINDS, METHODS, PAPER_MRI, Family, RunSettings, Settings, methods_for, tasks_for

# Starting times for an even half circle and for half of it missing.
_START_FULL, _START_HALF = 20, 300
_STEPS_FULL, _STEPS_HALF = 4, 24
# Iterations of classical methods; total variation converges slowly where directions are missing.
# Record: docs/research/tv-stopping.md.
_ITERATIONS, _TV_ITERATIONS_FULL, _TV_ITERATIONS_HALF = 100, 300, 2000
# Sparse views: adapt on coarser scales of the volume, and on interleaved views that are left out.
# Records: docs/research/splitting-sparse-view.md, docs/research/split-length.md.
_SPARSE = {
    "start_iterations": 80,
    "adapt_loss": "both",
    "adapt_leave_out": 0.33,
    "adapt_pattern": "interleaved",
    "adapt_splits": 4,
    "adapt_steps": 20,
    "adapt_every": 1,
    "adapt_admm_steps": 1,
    "adapt_cg_steps": 1,
    "learning_rate": 6e-3,
}
# Slices that are adapted one by one are not split; there the loss on views that x_t has seen does harm. In MRI a
# little of the paper's does none. Records: docs/research/coarser-scales.md, docs/research/fidelity-loss.md.
_BY_THEMSELVES: dict[str, dict[str, Any]] = {
    "both": {"adapt_loss": "scales", "adapt_leave_out": 0.0},
    "equivariance": {"adapt_loss": "fidelity", "adapt_steps": 5, "learning_rate": 5e-4},
}
# Below this coverage (degrees): adapt on contiguous views that are left out; no proximal term, since images denoised
# early are unreliable; more iterations of the initial total variation.
# Records: docs/research/splitting-limited-angle.md, docs/research/limited-angle-start.md.
_FEW_DIRECTIONS = 135.0
_LIMITED = {
    "start_iterations": 400,
    "proximal_weight": 0.0,
    "adapt_loss": "fidelity",
    "adapt_leave_out": 0.33,
    "adapt_pattern": "adjacent",
    "adapt_splits": 6,
    "adapt_steps": 10,
    "adapt_every": 1,
    "adapt_admm_steps": 3,
    "adapt_cg_steps": 3,
    "learning_rate": 8e-3,
}
# High start noise: fully stochastic sampling, independent between slices (eta = 1). Not in methods whose own direction
# that would hide. Records: docs/research/limited-angle-noise.md, docs/research/sampling-sparse-view.md.
_NOISE = {"eta": 0.85, "noise_correlation": 0.9}
_FRESH = {"eta": 1.0, "noise_correlation": 0.0}
_DIRECTED = ("scd", "ddnm", "diffpir", "dps")
# In MRI neither helps, but slices of the volume that are turned and acquired again do. Folded images overlap, and come
# apart in many steps. Records: docs/research/mri-equivariance.md, docs/research/sampling-steps.md.
_KSPACE_DEFAULTS = {
    "start_iterations": 80,
    "start_t": 20,
    "steps": 16,
    "tv_factor": 0.5,
    "adapt_loss": "equivariance",
    "adapt_leave_out": 0.0,
    "adapt_pattern": "interleaved",
    "adapt_splits": 0,
    "adapt_steps": 20,
    "adapt_every": 4,
    "adapt_admm_steps": 1,
    "adapt_cg_steps": 1,
    "learning_rate": 4e-3,
}
# Stacks of images, and data of other operators: as in sparse views, but that there are no views to leave out.
# Records: docs/research/coarser-scales.md, docs/research/image-stacks.md.
_NO_VIEWS = {
    "adapt_loss": "scales",
    "adapt_leave_out": 0.0,
    "adapt_splits": 0,
    "adapt_steps": 25,
    "learning_rate": 5e-3,
}
_FULL = {"start_t": _START_FULL, "steps": _STEPS_FULL, "tv_factor": 1.0, **_NOISE}
_HALF = {"start_t": _START_HALF, "steps": _STEPS_HALF, "tv_factor": 1.0, **_FRESH}
TASKS: dict[str, dict[str, Any]] = {
    "sparse-view": {**_FULL, **_SPARSE},
    "limited-angle": {**_HALF, **_LIMITED},
    "accelerated-mri": {**_NOISE, **_KSPACE_DEFAULTS},
    "images": {**_FULL, **_SPARSE, **_NO_VIEWS},
}
"""Values of settings left open for each task; what is not named here follows from the data."""


def task_of(measurement: Measurement) -> str:
    """Return the task that ``auto`` stands for."""
    if measurement.angular_range < _FEW_DIRECTIONS:
        return "limited-angle"
    return KINDS[measurement.kind].tasks[1]


def resolve(request: Settings, measurement: Measurement) -> RunSettings:
    """Return the settings of a run: the request with everything filled in that the scan decides.

    Raises
    ------
    SettingsError, PriorError
        See `fill_in`.
    """
    return RunSettings.create(fill_in(request, measurement))


def fill_in(request: Settings, measurement: Measurement) -> Settings:
    """Fill in the fields of a request that are chosen from the scan's geometry.

    Raises
    ------
    SettingsError
        If the method, the task or the loss of adaptation is not one of this kind of measurement, or more sampling
        steps are asked for than there are times.
    PriorError
        If there are no adapters where they are said to be.
    """
    kind, method = measurement.kind, METHODS[request.method]
    _check_kind("method", request.method, methods_for(kind), measurement)
    _check_kind("task", request.task, tasks_for(kind), measurement)
    defaults = _defaults(request, measurement)
    fields = {name: value for name, value in defaults.items() if getattr(request, name) is None}
    fields |= _overrides(request, measurement)
    if request.iterations is None:
        fields["iterations"] = default_iterations(request.method, measurement)
    fields |= _of_rays(request, measurement)
    if method.needs_prior:
        fields |= _of_prior(request, measurement)
    if request.method == "d3ip-mbir":
        request = request.updated(coupling="tv-z")
    if request.planes == "auto":
        fields["planes"] = _planes(request, measurement)
    return request.updated(**fields) if fields else request


def _of_rays(request: Settings, measurement: Measurement) -> dict[str, Any]:
    """Return the projector, and the sign, which measured rays cannot decide where directions are missing."""
    fields: dict[str, Any] = {}
    if request.backend == "auto" and "backend" not in KINDS[measurement.kind].excluded:
        fields["backend"] = fitting_backend(Extent.from_measurement(measurement))
    if request.nonnegative is None and _missing_directions(measurement) > 0:
        fields["nonnegative"] = True
    return fields


def _of_prior(request: Settings, measurement: Measurement) -> dict[str, Any]:
    """Return the task, the prior and what saved adapters decide."""
    fields: dict[str, Any] = {}
    if request.task == "auto":
        fields["task"] = task_of(measurement)
    if request.prior == "auto":
        fields["prior"] = SHIPPED
    return fields if request.adapter is None else fields | settings_of_adapter(request.adapter)


def _planes(request: Settings, measurement: Measurement) -> str:
    """Denoise along all axes where there are enough slices of about isotropic voxels, and a 3D regularizer."""
    slices, _, _ = measurement.volume_shape
    sizes = measurement.voxel_size or (1.0, 1.0, 1.0)
    isotropic = max(sizes) <= 2 * min(sizes)
    return "all" if isotropic and slices >= 16 and request.coupling in ("tv3d", "tgv") else "axial"


def preflight(request: Settings, measurement: Measurement) -> Settings:
    """Fill in a request, and refuse now what a run would refuse once it has loaded its prior and split the scan.

    Raises
    ------
    SettingsError, PriorError
        As the run would; naming the field first.
    """
    filled = fill_in(request, measurement)
    settings = RunSettings.create(filled)
    if isinstance(measurement, Sinogram):
        settings.validation.left_out_views(len(measurement.angles))
    if not settings.about.needs_prior:
        return filled
    folder = find_prior(settings.prior)
    times = train_steps(folder)
    if times is not None:
        check_start(settings.sampling.start_t, times)
    if settings.adaptation.adapter is not None:
        _check_prior_of_adapter(settings.adaptation.adapter, folder)
    return filled


def check_start(start_t: int, times: int) -> None:
    """Refuse to start sampling above the last of a prior's times.

    Raises
    ------
    SettingsError
        If it does.
    """
    if start_t >= times:
        raise SettingsError(f"start_t: {start_t} is not below the prior's {times} times; lower it.")


def _check_prior_of_adapter(adapter: str, folder: Path) -> None:
    name = describe_adapter(adapter)[1].get("prior")
    if not isinstance(name, str):
        return
    try:
        own = find_prior(name)
    except PriorError:  # Moved, or renamed: the network's layout will tell.
        return
    if own != folder:
        raise PriorError(f"adapter: {adapter} is of the prior '{name}'; choose that prior.")


def _check_kind(field: str, value: str, allowed: tuple[str, ...], measurement: Measurement) -> None:
    if value not in allowed:
        what = {"method": "does not reconstruct from", "task": "is not for"}[field]
        raise SettingsError(f"{field}: {value} {what} {KINDS[measurement.kind].title}; choose {', '.join(allowed)}.")


def _defaults(settings: Settings, measurement: Measurement) -> dict[str, Any]:
    """Return the values of settings that are left open."""
    defaults = dict(TASKS[task_of(measurement) if settings.task == "auto" else settings.task])
    if METHODS[settings.method].adapts == "slices":
        defaults |= {"adapt_splits": 0, **_BY_THEMSELVES.get(defaults["adapt_loss"], {})}
    if settings.method in _DIRECTED:
        defaults |= _NOISE
    if settings.preset == "fast":
        defaults["adapt_every"] *= 2
    if settings.task != "auto" or "limited-angle" not in tasks_for(measurement.kind):
        return defaults
    # The more directions are missing, the more the prior has to add: sampling starts earlier, in more steps.
    missing = _missing_directions(measurement)
    return {
        **defaults,
        "start_t": round(_START_FULL + (_START_HALF - _START_FULL) * missing),
        "steps": round(_STEPS_FULL + (_STEPS_HALF - _STEPS_FULL) * missing),
    }


def _missing_directions(measurement: Measurement) -> float:
    """Return 0 for a half circle, 1 for half of it."""
    return min(1.0, max(0.0, 170.0 - measurement.angular_range) / 80.0)


def default_iterations(method: str, measurement: Measurement) -> int:
    """Return the iterations of a classical method; a method that settles seldom reaches them."""
    if not METHODS[method].settles:
        return _ITERATIONS
    missing = _missing_directions(measurement)
    return round(_TV_ITERATIONS_FULL + (_TV_ITERATIONS_HALF - _TV_ITERATIONS_FULL) * missing)


def _overrides(request: Settings, measurement: Measurement) -> dict[str, Any]:
    """Return settings whose values a kind of measurement or a method does not leave to the user."""
    fields = _kspace_overrides(request) if isinstance(measurement, KSpace) else _real_overrides(request)
    if "adapt_leave_out" in KINDS[measurement.kind].excluded:
        if request.adapt_loss == "equivariance":
            raise SettingsError("adapt_loss: equivariance is for sinograms and k-space; choose scales.")
        fields |= {"adapt_leave_out": 0.0, "adapt_splits": 0}
    if METHODS[request.method].family is Family.DIRECT:
        fields["held_out_fraction"] = 0.0  # There is nothing to choose that held-out data would validate.
    return fields


def _real_overrides(request: Settings) -> dict[str, Any]:
    # Real images have no imaginary part, and wavelets beside total variation are for k-space.
    return {name: 0.0 for name in ("phase_constraint", "wavelet_factor") if getattr(request, name)}


def _kspace_overrides(request: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.preset == "paper":
        # What was given explicitly stays.
        fields = {name: value for name, value in PAPER_MRI.items() if name not in request.model_fields_set}
    if request.nonnegative is not False:
        fields["nonnegative"] = False  # Complex images have no sign.
    return fields
