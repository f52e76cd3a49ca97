"""Error with which a reader asks the user for a missing statement, such as the axis order.

No knowledge of file formats or Qt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from napari_d3ip.errors import AmbiguousLayoutError
from napari_d3ip.io.options import KSPACE_ONLY


class LayoutQuestion(AmbiguousLayoutError):
    """A file leaves open what only the user can state.

    Parameters
    ----------
    message : str
        One sentence that says what is open and how to state it.
    needs : str
        Field of `ReadOptions` that answers it, such as ``"axes"``, ``"angles"``, ``"dataset"`` or ``"repetition"``.
    candidates : sequence of str
        Possible answers; empty if they cannot be listed (``"angles"``, ``"flats"``, ``"trajectory"``).
    shape : tuple of int, optional
        Shape of the data in the file, if it is known already.
    also : sequence of str
        Fields that are open, too.
    kind : {"sinogram", "kspace"}, optional
        Kind of measurement in the file, which selects the import widget; default: the kind that has ``needs``.
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
