"""What a check of the scan suggests where its volume does not explain it."""

from __future__ import annotations

from collections.abc import Callable

from napari_d3ip.checking import check
from napari_d3ip.checking.views import FEWEST_VIEWS
from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.settings import Family

# Characters of an option, such as a list of angles, that are shown.
_LONGEST = 60


def with_advice(misfit: str | None, scan: Measurement, family: Family, poll: Callable[[], None]) -> str | None:
    """Return a sentence of misfit, with the description of the scan that predicts views left out better, if any.

    A scan is checked if its volume does not explain it, and a sinogram in any case where a prior was at work: of few
    views, a volume explains a wrong description, too.

    Parameters
    ----------
    misfit : str or None
        The sentence, if the volume does not explain the scan.
    scan : Measurement
        The scan.
    family : Family
        Of the method.
    poll : callable
        Called now and then; what it raises ends the check.
    """
    if isinstance(scan, Sinogram):
        wanted = len(scan.angles) >= FEWEST_VIEWS and (misfit is not None or family is Family.DIFFUSION)
    else:
        wanted = isinstance(scan, KSpace) and misfit is not None
    if not wanted:
        return misfit
    report = check(scan, poll)
    if not report.suggestions:
        return misfit
    first = report.suggestions[0]
    given = " and ".join(each if len(each) <= _LONGEST else f"{each[:_LONGEST]}…" for each in first.set)
    advice = f"{first.why}; give {given}" if given else first.why
    if first.gain > 0:
        left_out = "views" if isinstance(scan, Sinogram) else "lines"
        advice += f" (squared residual of {left_out} left out {first.gain:.0%} smaller)"
    found = "The description of the scan may be wrong: " if misfit is None else f"{misfit} A check of the scan says: "
    return f"{found}{advice}."
