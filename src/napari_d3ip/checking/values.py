"""What may be wrong with the values of a scan: what they are, bad pixels, bad views, the beam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from napari_d3ip.alignment.prediction import predict_left_out
from napari_d3ip.checking.candidate import Candidate, how_read
from napari_d3ip.checking.views import small
from napari_d3ip.corrections import correct
from napari_d3ip.corrections.bad_columns import bad_columns
from napari_d3ip.corrections.chain import RECORD
from napari_d3ip.corrections.neighbours import DEVIATIONS
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check

# Columns, and views, that stand out: in deviations of the others, times these, and the largest part of all.
_OUTLIER, _TIMES, _FEW = 10.0, 4.0, 0.1
# Gain of leaving rays out, which makes the rest easier to predict.
_GAIN_OF_FEWER, _GAIN_OF_CORRECTION = 0.25, 0.25
# Transmissions are raised to this before their logarithm; the largest number of one that noise makes of 1.
_LEAST_TRANSMISSION, _MOST_TRANSMISSION = 1e-4, 2.0


@dataclass(frozen=True)
class Values:
    """The numbers are counts, transmissions or line integrals, and were taken for something else."""

    name: ClassVar[str] = "values"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with its numbers taken for something else."""
        kind = how_read(scan, "values").get("in_file", "line_integrals")
        if kind == "transmission":
            why = "the numbers are line integrals already, not transmissions"
            integrals = replace(scan, data=np.exp(-scan.data))
            yield Candidate({"values": "line_integrals"}, why, integrals, is_paired=False)
        if kind != "line_integrals" or np.quantile(scan.data, 0.01) <= 0:
            return
        beam = float(np.quantile(scan.data, 0.99))
        if scan.data.max() < _MOST_TRANSMISSION:
            options, beam, why = {"values": "transmission"}, 1.0, "the numbers are transmissions, not line integrals"
        else:
            options = {"values": "counts", "flats": f"{beam:.6g}"}
            why = "the numbers are counts, not line integrals"
        data = -np.log(np.maximum(scan.data / beam, _LEAST_TRANSMISSION)).astype(np.float32)
        yield Candidate(options, why, replace(scan, data=data), is_paired=False)


@dataclass(frozen=True)
class BadPixels:
    """Some columns of the detector are dead or hot."""

    name: ClassVar[str] = "bad_pixels"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan without columns that differ from their neighbours in most views."""
        columns = bad_columns(scan.data)
        if not len(columns):
            return
        good = np.ones((1, 1, scan.data.shape[2]), bool)
        good[..., columns] = False
        mask = good if scan.mask is None else scan.mask & good
        options = {"bad_pixels": ",".join(map(str, columns))}
        why = f"detector columns {options['bad_pixels']} differ from those beside them in all views"
        yield Candidate(options, why, replace(scan, mask=mask), is_paired=False, least=_GAIN_OF_FEWER)


@dataclass(frozen=True)
class Views:
    """Some views are blank, shifted or otherwise unlike the others."""

    name: ClassVar[str] = "skip_views"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan without views that the others predict far worse than most."""
        reduced = small(scan)
        if "views_left_out" in how_read(scan, "values") or len(reduced.angles) < len(scan.angles):
            return
        each = np.sqrt(predict_left_out(reduced, every=5, folds=5, check=poll).squares(reduced.data))
        median = float(np.median(each))
        deviation = float(np.median(np.abs(each - median))) * DEVIATIONS
        bad = each > max(_TIMES * median, median + _OUTLIER * deviation)
        # At the ends of the turn wrong geometry shows first.
        if not 0 < bad.sum() <= max(1, _FEW * len(bad)) or bad[np.argsort(scan.angles, kind="stable")[[0, -1]]].any():
            return
        options = {"skip_views": ",".join(map(str, np.flatnonzero(bad)))}
        why = f"the others do not predict projections {options['skip_views']}"
        yield Candidate(options, why, scan.select(views=~bad), is_paired=False, least=_GAIN_OF_FEWER)


@dataclass(frozen=True)
class Air:
    """The beam changes, or there are no flat fields; the ends of the detector see air."""

    name: ClassVar[str] = "air"

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the scan relative to columns at either end."""
        values = how_read(scan, "values")
        if values.get("in_file", "line_integrals") == "line_integrals" or "air" in values:
            return
        detectors = scan.data.shape[2]
        width = max(2, detectors // 16)
        for first, stop in ((0, width), (detectors - width, detectors)):
            data = scan.data - scan.data[..., first:stop].mean(axis=2, keepdims=True)
            why = f"the beam changes in columns {first}:{stop}, which see air"
            yield Candidate({"air": f"{first}:{stop}"}, why, replace(scan, data=data), is_paired=False)


@dataclass(frozen=True)
class Correction:
    """The values need a correction: of stripes, a drifting beam, or zingers."""

    name: str
    """Name of the correction; it is the read option ``corrections`` that changes."""
    why: str

    def candidates(self, scan: Sinogram, whole: Sinogram, poll: Check) -> Iterator[Candidate]:
        """Yield the corrected scan, unless it was corrected already when it was read."""
        if whole.provenance.get(RECORD):
            return
        corrected = correct(scan, self.name)
        chain = ",".join(each["name"] for each in corrected.provenance[RECORD])
        yield Candidate({RECORD: chain}, self.why, corrected, is_paired=False, least=_GAIN_OF_CORRECTION)


CORRECTIONS = (
    Correction("stripes", "single columns of the detector add the same to all views, which makes rings"),
    Correction("drift", "the beam drifts: the views of a slice differ in mass"),
    Correction("zingers", "single rays are far brighter or darker than those around them"),
)
