"""Tasks: what is measured of a volume to try methods on, by name.

=================  ====================================================================================
``views30``        CT, 30 views over 180 degrees
``views20@120``    CT, 20 views over 120 degrees
``angle90``        CT, limited angle: a view every 2 degrees, 45 over 90 degrees
``uniform4``       MRI, 8 coils, every 4th line and 8 % of the lines in the centre
``random4``        MRI, 8 coils, a 4th of the lines, denser towards the centre
``poisson8``       MRI, 8 coils, an 8th of the samples on a Poisson disc and a fully sampled square in the centre
=================  ====================================================================================

Scans are simulated by `napari_d3ip.simulate` on a grid twice as fine as the volume's, but with this package's own
projector. The published tables use a foreign one: ``scripts/make_evaluation_data.py`` makes these scans, whose files
are evaluated as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.simulate import simulate_kspace, simulate_sinogram
from napari_d3ip.simulate.sampling import PATTERNS

EXAMPLES = "views30, views20@120, angle90, uniform4, random4, poisson8"
_DEGREES_A_VIEW = 2
_NUMBER = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class Task:
    """A way to measure a volume.

    Parameters
    ----------
    name : str
        As in the table above.
    kind : str
        ``"sinogram"`` or ``"kspace"``.
    options : dict
        For `simulate_sinogram` or `simulate_kspace`.
    """

    name: str
    kind: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, name: str) -> Task:
        """Task of a name.

        Raises
        ------
        SettingsError
            If there is no such task.
        """
        if found := re.fullmatch(rf"views(\d+)(?:@{_NUMBER})?", name):
            return cls(name, "sinogram", {"views": int(found[1]), "angle_range": float(found[2] or 180)})
        if found := re.fullmatch(rf"angle{_NUMBER}", name):
            degrees = float(found[1])
            return cls(name, "sinogram", {"views": round(degrees / _DEGREES_A_VIEW), "angle_range": degrees})
        if found := re.fullmatch(rf"({'|'.join(PATTERNS)}){_NUMBER}", name):
            return cls(name, "kspace", {"pattern": found[1], "acceleration": float(found[2])})
        raise SettingsError(f"tasks: there is no '{name}'; write them as {EXAMPLES}.")

    def measure(self, volume: np.ndarray[Any, Any], noise: float) -> Measurement:
        """Scan of a volume (z, y, x); mask and noise are the same at every call.

        Raises
        ------
        MeasurementError
            If the volume cannot be measured so.
        """
        simulate = simulate_sinogram if self.kind == "sinogram" else simulate_kspace
        return simulate(volume, noise=noise, **self.options)
