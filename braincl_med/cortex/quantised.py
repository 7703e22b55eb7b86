"""Steps of a network in 8 bits: where training went, on a grid that both ends of a wire can name in a byte a number.

    w' = w + q 2^e,   q of -127 … 127 for each number, e for each row (output channel) of a tensor

q is rounded at random to one of its two neighbours, so that it is right on average (QSGD, Alistarh et al. 2017), and
nothing has to be remembered of what rounding took away: a run that is killed and resumed rounds alike. Only the
backbone's matrices and convolutions are rounded, which are all but a thousandth of the bytes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from braincl_med.cortex.cortex import Weights

LARGEST = 127
LEAST_EXPONENT = -126
"""2^e of a smaller one would be no normal number of single precision."""


def is_quantised(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of the shared network is one whose steps are rounded."""
    return name.startswith("backbone.") and tensor.ndim >= 2 and tensor.dtype == torch.float32


def quantised(moved: Mapping[str, Tensor], sent: Weights, seed: int) -> Weights:
    """A network whose steps from another are on the grid; other tensors, and those that were not sent, stay.

    Args:
        moved: the network after a step, finite.
        sent: the network before it.
        seed: of the rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    rounded = dict(moved)
    for name in sorted(moved):
        if name in sent and is_quantised(name, moved[name]) and sent[name].shape == moved[name].shape:
            step = moved[name].double() - sent[name].double()
            exponents = exponents_of(step, LARGEST)
            scaled = torch.ldexp(step, -along(exponents, step))
            lower = scaled.floor()
            up = torch.rand(step.shape, generator=generator, dtype=torch.float64) < scaled - lower
            rounded[name] = moved_by((lower + up).clamp(-LARGEST, LARGEST), exponents, sent[name])
    return rounded


def exponents_of(step: Tensor, largest: float) -> Tensor:
    """(rows,) int16: the least exponents with which no number of a row is beyond `largest`; steps (rows, …)."""
    most = step.abs().flatten(1).amax(1) / largest
    mantissas, exponents = torch.frexp(most)
    # most = mantissa 2^exponent with a mantissa of [1/2, 1), so 2^exponent is above it, or twice what would do.
    exponents = torch.where(mantissas == 0.5, exponents - 1, exponents)
    return torch.where(most > 0, exponents, torch.full_like(exponents, LEAST_EXPONENT)).clamp(LEAST_EXPONENT).short()


def moved_by(numbers: Tensor, exponents: Tensor, sent: Tensor) -> Tensor:
    """`sent` and the step q 2^e, in single precision: the same bits on every machine.

    Args:
        numbers: q, whole, of the shape of `sent`.
        exponents: (rows,) e.
        sent: of single precision.
    """
    return sent + torch.ldexp(numbers.float(), along(exponents, numbers))


def along(exponents: Tensor, step: Tensor) -> Tensor:
    """Exponents (rows,) so that they act on each number (rows, …) of their row."""
    return exponents.int().reshape(-1, *[1] * (step.ndim - 1))
