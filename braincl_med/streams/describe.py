"""In words, which scans an experiment learns from."""

from braincl_med.settings.config import StreamConfig
from braincl_med.streams.named import datasets_of
from braincl_med.streams.sources import Source, source_of
from braincl_med.streams.tasks import Registry


def describe(registry: Registry, stream: StreamConfig) -> str:
    """One phrase for logs, results and the dashboard; synthetic scans are named loudly.

    >>> from braincl_med.streams.named import build_registry
    >>> describe(build_registry(StreamConfig(name="medmnist12"), 1), StreamConfig(name="medmnist12"))
    'MedMNIST (bloodmnist, breastmnist, pneumoniamnist), 28 px'
    """
    groups: dict[Source, list[str]] = {}
    for name in datasets_of(registry):
        groups.setdefault(source_of(name), []).append(name)
    # What is real is named first.
    ordered = sorted(groups.items(), key=lambda group: group[0].synthetic)
    parts = [source.described(names, stream) for source, names in ordered]
    counted = ", evaluated on VALIDATION scans" if stream.evaluate == "val" else ""
    return f"{' and '.join(parts)}, {stream.size} px{counted}"
