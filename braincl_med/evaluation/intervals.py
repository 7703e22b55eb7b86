"""How far a share counted on few scans can be trusted."""

from math import sqrt


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share; at the default `z` it covers the true share in 95 % of cases.

    Unlike the textbook interval it stays within [0, 1] and is not empty when all or none of a few scans are right
    (Wilson, "Probable inference, the law of succession, and statistical inference", 1927).

    Returns:
        The lower and the upper end; (0, 1) without trials, where nothing is known.

    Raises:
        ValueError: `successes` is negative or above `trials`.

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
