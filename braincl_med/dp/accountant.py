"""What several releases on the same scans cost together."""

from collections.abc import Sequence
from dataclasses import dataclass

from braincl_med.dp.gaussian import epsilon_of, together
from braincl_med.foundation.errors import ConfigError


@dataclass(frozen=True)
class Spent:
    """A run of equal releases.

    Attributes:
        multiplier: of the noise, in units of what one scan (or patient) can change.
        rate: with which probability each of them is in a release at all, drawn anew every time (Poisson sampling);
            1 where all are.
        steps: how many releases.
    """

    multiplier: float
    rate: float = 1.0
    steps: int = 1


def epsilon(spent: Sequence[Spent], delta: float) -> float:
    """The ε of all these releases together at `delta`; 0 for none.

    Where every release reads all scans it is exact (`dp.gaussian`). Where scans are sampled it is an upper bound by
    Rényi divergences (Mironov 2017; Mironov, Talwar & Zhang 2019), as Opacus counts them.

    Raises:
        ConfigError: scans are sampled, and Opacus is not installed.
    """
    if not spent:
        return 0.0
    if all(one.rate == 1 for one in spent):
        return epsilon_of(together(one.multiplier for one in spent for _ in range(one.steps)), delta)
    try:
        from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ConfigError(
            "privacy-mode 'updates' needs the package 'opacus': pip install '.[privacy]' in the project's folder"
        ) from None
    accountant = RDPAccountant()
    accountant.history = [(one.multiplier, one.rate, one.steps) for one in spent]
    return float(accountant.get_epsilon(delta))
