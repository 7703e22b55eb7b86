"""Settings as former versions wrote them into checkpoints and run stores, read by this one."""

from collections.abc import Mapping
from typing import Any

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.memory import parted

RETIRED: dict[str, dict[str, Any]] = {
    "memory": {"hidden-channels": None, "entropy-learning-rate": 1e-3, "gradient-norm": 1.0},
    "wake": {"new-rows": "kaiming"},
    "ewc": {"fisher-samples": 200},
    "icarl": {"similarity-scale": 30.0},
    "der": {
        "auxiliary-weight": 1.0,
        "rebalance-epochs": 30,
        "rebalance-per-class": 20,
        "rebalance-learning-rate": 0.004,
    },
    "mygo": {
        "noise": 64,
        "channels": 16,
        "hidden-units": 128,
        "generator-batch-size": 64,
        "generator-learning-rate": 1e-3,
    },
    "mesu": {
        "initial-deviation": 0.1,
        "prior-deviation": 1.0,
        "horizon": 1e6,
        "second-order": True,
        "step-ratio": 0.1,
        "samples-training": 2,
        "samples-inference": 4,
    },
}
"""Keys that became constants of the code, and their value there."""


def modernised(settings: Mapping[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    """Former settings without the keys that are constants now and those that had no effect.

    Args:
        settings: as they were written, with kebab-case keys.
        used: the sections that the method uses; what others say does not matter.

    Raises:
        ConfigError: a key that is a constant now had another value.
    """
    read: dict[str, Any] = {}
    for name, section in settings.items():
        if not isinstance(section, Mapping):
            read[name] = section
            continue
        retired = RETIRED.get(name, {})
        other = [key for key, value in retired.items() if name in used and section.get(key, value) != value]
        if other:
            raise ConfigError(
                f"{name}-{other[0]} was {section[other[0]]!r} and is {retired[other[0]]!r} for good now: "
                "go on with the version of this program that began the experiment, or start afresh"
            )
        kept = {key: value for key, value in section.items() if key not in retired}
        read[name] = parted(kept) if name == "memory" else kept
    for gone in ("icarl", "der"):
        read.pop(gone, None)
    return read
