"""One run of an evaluation: a scan in memory, its settings, its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_d3ip.device import resolve_device
from napari_d3ip.evaluate.figures import middle_slice
from napari_d3ip.evaluate.folder import Row
from napari_d3ip.evaluate.identity import row_key
from napari_d3ip.evaluate.plan import Plan, Wanted
from napari_d3ip.evaluate.scans import Scan
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.metrics import slice_psnr
from napari_d3ip.preparation import prepare
from napari_d3ip.reconstruction import Control, Step, reconstruct
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings


@dataclass
class LoadedScan:
    """A scan in memory."""

    scan: Scan
    measurement: Measurement
    reference: FloatArray | None
    plan: Plan

    @cached_property
    def noise(self) -> float:
        """Noise at unit norm and intensity, as `Plan.fields` let it be; the unit of weights that say so."""
        fields = {name: value for name, value in self.plan.fields.items() if "*" not in str(value)}
        settings = Settings.create({**fields, "device": self.plan.device})
        run = resolve(settings, self.measurement)
        return prepare(self.measurement, run, resolve_device(settings.device), Control().check).problem.noise

    def settings(self, wanted: Wanted) -> Settings:
        """Settings of a run on this scan."""
        return wanted.at(self.noise) if wanted.in_noise else wanted.settings

    def key(self, settings: Settings) -> str:
        """Name of the row of these settings, see `row_key`."""
        reference = b"" if self.reference is None else np.ascontiguousarray(self.reference).tobytes()
        return row_key(self.measurement, settings, reference)

    def run(self, settings: Settings, on_step: Callable[[Step], None] = lambda step: None) -> tuple[Row, FloatArray]:
        """Row of a reconstruction, and its middle slice."""
        result = reconstruct(self.measurement, settings, reference=self.reference, on_step=on_step)
        by_slice = None if self.reference is None else slice_psnr(result.volume, self.reference)
        return {**result.summary(), "slice_psnr": by_slice}, middle_slice(result.volume)
