"""What a check of the scan adds to the sentence of misfit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.advice import with_advice
from napari_d3ip.settings import Family

RIGHT = replace(disc_scan(np.arange(0.0, 180.0, 6.0), 18.6, noise=0.01), center=18.6)
WRONG = replace(RIGHT, center=21.0)
KSPACE = KSpace(np.random.default_rng(0).normal(size=(1, 2, 8, 8)) + np.pad([[9.0 + 1j]], ((4, 3), (4, 3))))


def _no_poll() -> None:
    pass


def test_misfit_says_what_would_be_better() -> None:
    said = with_advice("The volume does not explain the scan.", WRONG, Family.REGULARIZED, _no_poll)
    assert said is not None
    assert said.startswith(
        "The volume does not explain the scan. A check of the scan says: the rotation axis is at 18."
    )
    assert "; give center=18." in said
    assert said.endswith("% smaller).")


def test_a_prior_may_explain_a_wrong_description() -> None:
    said = with_advice(None, WRONG, Family.DIFFUSION, _no_poll)
    assert said is not None
    assert said.startswith("The description of the scan may be wrong: the rotation axis is at 18.")
    assert with_advice(None, WRONG, Family.REGULARIZED, _no_poll) is None


@pytest.mark.parametrize(
    "scan",
    [RIGHT, replace(WRONG, data=WRONG.data[:, :7], angles=WRONG.angles[:7]), KSPACE],
)
def test_nothing_is_added_where_nothing_is_better(scan: Sinogram | KSpace) -> None:
    assert with_advice(None, scan, Family.DIFFUSION, _no_poll) is None
    assert with_advice("Misfit.", scan, Family.DIFFUSION, _no_poll) == "Misfit."


def test_a_run_says_it() -> None:
    assert "center=18." in reconstruct(WRONG, method="cg", device="cpu").metrics["misfit"]
