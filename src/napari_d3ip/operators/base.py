"""Linear operators on batches of slices: forward, exact adjoint, and autograd that uses the adjoint.

No knowledge of files, priors or solvers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Check = Callable[[], None]


def no_check() -> None:
    """Do nothing; the default of callbacks that are polled in long computations."""


class LinearOperator(ABC):
    """A linear map of every slice of a volume, or of the volume as a whole, ``y = A x``.

    Subclasses define `forward` and `adjoint` on tensors of shape (z, *domain_shape) and (z, *range_shape), which must
    be exact adjoints of each other. Calling the operator is differentiable any number of times: the backward pass
    of ``A`` is its adjoint, however it is computed.

    An operator with `couples_slices` maps the volume of `depth` slices as a whole to any number of rows of data; the
    result of `restrict` is then the part of the data at `rows` to which some slices contribute.
    """

    domain_shape: tuple[int, ...]
    range_shape: tuple[int, ...]
    domain_dtype: torch.dtype = torch.float32
    couples_slices: bool = False
    depth: int | None = None

    def restrict(self, index: Tensor) -> LinearOperator:
        """Return the operator of the slices at ``index``; itself if all slices share it."""
        return self

    def rows(self, index: Tensor) -> Tensor:
        """Return the indices of the data, along their first axis, that the slices at ``index`` contribute to."""
        return index

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Compute ``A x``, shape (z, *range_shape)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Compute ``A^H y``, shape (z, *domain_shape)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Compute ``A x`` with autograd."""
        return apply_linear(x, self.forward, self.adjoint)

    def transpose(self, y: Tensor) -> Tensor:
        """Compute ``A^H y`` with autograd."""
        return apply_linear(y, self.adjoint, self.forward)

    def norm(self, device: torch.device | str = "cpu", iterations: int = 30, check: Check = no_check) -> float:
        """Estimate the largest singular value of the first slice, by power iteration (to about 0.1 %).

        For coupled slices, of the volume. ``check`` is polled before each iteration and may raise to stop.
        """
        x = self._probe().to(device)
        value, one = torch.zeros(()), self if self.couples_slices else self.restrict(torch.tensor([0]))
        for _ in range(iterations):
            check()
            x = x / torch.linalg.vector_norm(x)
            x = one.adjoint(one.forward(x))
            value = torch.linalg.vector_norm(x)
        return float(value.sqrt())

    def _probe(self) -> Tensor:
        """Return the start of power iteration: constant, which projectors and blurs preserve best."""
        return torch.ones((self.depth or 1, *self.domain_shape), dtype=self.domain_dtype)


class Identity(LinearOperator):
    """Identity on slices.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a slice.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.domain_shape = self.range_shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return ``y``."""
        return y


def apply_linear(x: Tensor, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute ``forward(x)`` of a linear map, differentiable any number of times with its adjoint."""
    result: Tensor = _Apply.apply(x, forward, adjoint)
    return result


class _Apply(torch.autograd.Function):
    """Differentiable application of a linear map whose backward is the given adjoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Any, adjoint: Any) -> Tensor:
        ctx.maps = (forward, adjoint)
        result: Tensor = forward(x)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        forward, adjoint = ctx.maps
        return _Apply.apply(grads[0], adjoint, forward), None, None


class _Wrapper(LinearOperator):
    """Operator that wraps another one of the same domain and range."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.domain_shape, self.range_shape = operator.domain_shape, operator.range_shape
        self.domain_dtype = operator.domain_dtype
        self.couples_slices, self.depth = operator.couples_slices, operator.depth

    def rows(self, index: Tensor) -> Tensor:
        """Return the rows of the wrapped operator."""
        return self.operator.rows(index)


class Scaled(_Wrapper):
    """``factor * A``; used to work at unit operator norm."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator)
        self.factor = factor

    def restrict(self, index: Tensor) -> Scaled:
        """Return the scaled operator of some slices."""
        return Scaled(self.operator.restrict(index), self.factor)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``factor * A x``."""
        return self.operator.forward(x) * self.factor

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute ``factor * A^H y``."""
        return self.operator.adjoint(y) * self.factor


class Filtered(_Wrapper):
    """``F A``: rows of data are convolved with a symmetric kernel along their last axis, 0 beyond their ends.

    Parameters
    ----------
    operator : LinearOperator
        Operator of real data.
    kernel : Tensor
        Shape (odd length,); symmetric, so that ``F`` is its own adjoint.
    """

    def __init__(self, operator: LinearOperator, kernel: Tensor) -> None:
        super().__init__(operator)
        self.kernel = kernel

    def restrict(self, index: Tensor) -> Filtered:
        """Return the filtered operator of some slices."""
        return Filtered(self.operator.restrict(index), self.kernel)

    def filtered(self, y: Tensor) -> Tensor:
        """Compute ``F y`` of data (..., detector)."""
        rows = F.conv1d(y.reshape(-1, 1, y.shape[-1]), self.kernel[None, None], padding=len(self.kernel) // 2)
        return rows.reshape(y.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``F A x``."""
        return self.filtered(self.operator.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute ``A^H F y``."""
        return self.operator.adjoint(self.filtered(y))


class Masked(_Wrapper):
    """``M A``: an operator with some rays masked.

    Parameters
    ----------
    operator : LinearOperator
        Full operator.
    mask : Tensor
        Shape (z, ...), broadcastable to (z, *range_shape), 1 for used rays and 0 for others;
        symmetric, so the adjoint is ``A^H M``.
    """

    def __init__(self, operator: LinearOperator, mask: Tensor) -> None:
        super().__init__(operator)
        self.mask = mask

    def restrict(self, index: Tensor) -> Masked:
        """Return the masked operator of some slices."""
        rows = self.operator.rows(index)
        return Masked(self.operator.restrict(index), self.mask[rows.to(self.mask.device)])

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``M A x``."""
        return self.operator.forward(x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute ``A^H M y``."""
        return self.operator.adjoint(y * self.mask)
