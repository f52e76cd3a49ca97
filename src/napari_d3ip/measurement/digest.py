"""What an array holds as a short text, to see later whether it still does.

NumPy only.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 2**26
"""Arrays up to this size are hashed whole, larger ones by so many bytes of rows that are evenly spread."""


def array_digest(array: npt.NDArray[Any]) -> str:
    """Return shape, type and a hash of the numbers.

    Parameters
    ----------
    array : ndarray
        Any shape. Above `MOST_BYTES` only every n-th row is hashed, so that it takes a fraction of a second whatever
        the size: a filter, a crop or another scan is seen, a single voxel may not be.

    Returns
    -------
    str
        Equal for equal arrays.
    """
    step = max(1, math.ceil(array.nbytes / MOST_BYTES))
    rows = array.reshape(1, -1) if array.ndim < 2 else array[..., ::step, :]
    found = hashlib.blake2b(np.ascontiguousarray(rows).view(np.uint8).data, digest_size=16)
    return f"{array.shape} {array.dtype.str} {found.hexdigest()}"
