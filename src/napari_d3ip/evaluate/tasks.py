"""Tasks: acquisitions to simulate from a volume, by name.

=====================  ===============================================================================================
``views30``            CT, 30 views over 180 degrees
``views20@120``        CT, 20 views over 120 degrees
``angle90``            CT, limited angle: a view every 2 degrees, 45 over 90 degrees
``uniform4``           MRI, 8 coils, every 4th line and 8 % of the lines in the centre
``random4``            MRI, 8 coils, a 4th of the lines, denser towards the centre
``poisson8``           MRI, 8 coils, an 8th of the samples on a Poisson disc and a fully sampled square in the centre
``uniform4_tissue``    any of these of MRI with phase of fine structure and of fat, as measured images have it
``views30_noise0.03``  any of these with Gaussian noise of its own, as `simulate_sinogram`, `simulate_kspace` take it
``views30_photons1e4`` CT, 10,000 photons a detector pixel and view counted, through an optical depth of 4
``ct``, ``mri``        all of `SETS`
=====================  ===============================================================================================

Scans are simulated on a grid twice as fine as the volume's. CT is projected by rotation with splines and summation
(`scipy.ndimage.rotate`), not by this package's own projector, since methods would then invert the matrix that
generated their data. Files of scans are evaluated as they are; those of the published tables are projected by ASTRA's
strip kernel, see ``scripts/make_evaluation_data.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.simulate import simulate_kspace, simulate_sinogram
from napari_d3ip.simulate.sampling import PATTERNS

EXAMPLES = "views30, views20@120, angle90_noise0.03, views60_photons1e4, uniform4, random4, poisson8_tissue"
SETS = {
    "ct": (
        *("views20_noise0.01", "views30_noise0.01", "views60_noise0.01", "angle90_noise0.01", "angle120_noise0.01"),
        *("views30_noise0", "views30_noise0.03", "views30_photons1e4"),
    ),
    "mri": ("uniform4_noise0.08", "uniform4_tissue_noise0.08", "poisson8_noise0.08", "poisson8_tissue_noise0.08"),
}
"""Sets of tasks that cover typical undersampling, with varied noise for one of them."""
_DEGREES_A_VIEW = 2
_OPTICAL_DEPTH = 4.0  # 2 % are transmitted, as through a body.
_NUMBER = r"(\d+(?:\.\d+)?(?:e\d+)?)"


@dataclass(frozen=True)
class Task:
    """Simulated acquisition of a volume.

    Parameters
    ----------
    name : str
        Name as in the table above.
    kind : str
        ``"sinogram"`` or ``"kspace"``.
    options : dict
        Options of `simulate_sinogram` or `simulate_kspace`.
    """

    name: str
    kind: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, name: str) -> Task:
        """Parse the name of a task.

        Raises
        ------
        SettingsError
            If there is no such task.
        """
        noisy = re.fullmatch(rf"(.+?)(?:_(noise|photons){_NUMBER})?", name)
        geometry, spoils = (noisy[1], noisy[2]) if noisy else (name, None)
        kind, options = _geometry(geometry)
        if not kind or (spoils == "photons" and kind == "kspace"):
            raise SettingsError(f"tasks: must be written as {EXAMPLES}, or {', '.join(SETS)}, got '{name}'.")
        if noisy and spoils:
            options[spoils] = float(noisy[3])
        if spoils == "photons":
            options["optical_depth"] = _OPTICAL_DEPTH
        return cls(name, kind, options)

    def with_noise(self, fraction: float) -> Task:
        """Return the task with noise in its name, unless its name states the noise."""
        if {"noise", "photons"} & self.options.keys():
            return self
        return Task(f"{self.name}_noise{fraction:g}", self.kind, {**self.options, "noise": fraction})

    def measure(self, volume: np.ndarray[Any, Any]) -> Measurement:
        """Simulate the scan of a volume (z, y, x); mask and noise are the same at every call.

        Raises
        ------
        MeasurementError
            If the task cannot be simulated from the volume.
        """
        if self.kind == "kspace":
            return simulate_kspace(volume, **self.options)
        return simulate_sinogram(volume, projector="rotation", **self.options)


def parse_tasks(names: Sequence[str]) -> list[Task]:
    """Parse the names of tasks and of sets of tasks, without duplicates.

    Raises
    ------
    SettingsError
        If there is no such task.
    """
    every = [one for name in names for one in SETS.get(name, (name,))]
    return [Task.parse(name) for name in dict.fromkeys(every)]


def _geometry(name: str) -> tuple[str, dict[str, Any]]:
    """Return kind of measurement and options of a name without noise; an empty kind if the name is unknown."""
    if found := re.fullmatch(rf"views(\d+)(?:@{_NUMBER})?", name):
        return "sinogram", {"views": int(found[1]), "angle_range": float(found[2] or 180)}
    if found := re.fullmatch(rf"angle{_NUMBER}", name):
        degrees = float(found[1])
        return "sinogram", {"views": round(degrees / _DEGREES_A_VIEW), "angle_range": degrees}
    if found := re.fullmatch(rf"({'|'.join(PATTERNS)}){_NUMBER}(_tissue)?", name):
        options = {"pattern": found[1], "acceleration": float(found[2])}
        return "kspace", {**options, "tissue": True} if found[3] else options
    return "", {}
