"""Digest of an array, to detect changes of its content.

NumPy only.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 2**26
"""Arrays up to this size are hashed completely, larger ones by about as many bytes of evenly spaced rows."""


def array_digest(array: npt.NDArray[Any]) -> str:
    """Return a text with shape, type and a hash of the values.

    Parameters
    ----------
    array : ndarray
        Any shape. Above `MOST_BYTES` only every n-th row is hashed, to take a fraction of a second for any size:
        a filter, a crop or another scan is detected, a change of a single voxel may not be.

    Returns
    -------
    str
        Equal for equal arrays.
    """
    step = max(1, math.ceil(array.nbytes / MOST_BYTES))
    rows = array.reshape(1, -1) if array.ndim < 2 else array[..., ::step, :]
    found = hashlib.blake2b(np.ascontiguousarray(rows).view(np.uint8).data, digest_size=16)
    return f"{array.shape} {array.dtype.str} {found.hexdigest()}"
