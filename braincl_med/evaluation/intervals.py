"""How far a share counted on few scans can be trusted, and how far a ranking of them."""

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


def auc_interval(auc: float, positives: int, negatives: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of an area under the ROC curve; at the default `z` it covers the true one in 95 % of cases.

    Its ends θ solve |θ − auc| = z √V(θ) with Hanley and McNeil's variance V, so that unlike `auc ± z √V(auc)` it
    stays within [0, 1] and is not empty at 0 and 1 (Newcombe, "Confidence intervals for an effect size measure based
    on the Mann-Whitney statistic", 2006, method 5).

    Returns:
        The lower and the upper end; (0, 1) where one of both kinds is missing and nothing is known.

    Raises:
        ValueError: `auc` lies outside [0, 1].

    >>> [round(end, 2) for end in auc_interval(0.8, 50, 50)]
    [0.7, 0.87]
    """
    if not 0 <= auc <= 1:
        raise ValueError(f"an area of {auc}")
    if not positives or not negatives:
        return 0.0, 1.0
    more = (positives + negatives) / 2 - 1

    def beyond(theta: float) -> bool:
        spread = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        return abs(theta - auc) > z * sqrt(theta * (1 - theta) * spread / (positives * negatives))

    ends = []
    for outside in (0.0, 1.0):
        inside = auc
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
        ends.append((inside + outside) / 2)
    return ends[0], ends[1]
