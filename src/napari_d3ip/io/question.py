"""The error that asks: what a file leaves open, in a form an import widget can turn into a form.

Knows no file format and no Qt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from napari_d3ip.errors import AmbiguousLayoutError
from napari_d3ip.io.options import KSPACE_ONLY


class LayoutQuestion(AmbiguousLayoutError):
    """A file leaves something open that only the user can say.

    Parameters
    ----------
    message : str
        One sentence that says what is open and how to answer.
    needs : str
        Field of `ReadOptions` that answers it: ``"axes"``, ``"angles"``, ``"angle_unit"``, ``"values"``,
        ``"flats"``, ``"dataset"``, ``"repetition"``, ``"trajectory"`` or ``"image_shape"``.
    candidates : sequence of str
        Answers that are possible; empty if they cannot be listed (``"angles"``, ``"flats"``, ``"trajectory"``).
    shape : tuple of int, optional
        Shape of the data in the file, if it is known already.
    also : sequence of str
        Fields that are open, too.
    kind : {"sinogram", "kspace"}, optional
        What the file seems to hold, that is, which import widget to open; default: the kind that has ``needs``.
    """

    def __init__(
        self,
        message: str,
        *,
        needs: str,
        candidates: Sequence[str] = (),
        shape: tuple[int, ...] | None = None,
        also: Sequence[str] = (),
        kind: Literal["sinogram", "kspace"] | None = None,
    ) -> None:
        super().__init__(message)
        self.needs = needs
        self.candidates = tuple(candidates)
        self.shape = shape
        self.also = tuple(also)
        self.kind = kind or ("kspace" if needs in KSPACE_ONLY else "sinogram")
