"""In words, which scans an experiment learns from."""

from braincl_med.settings.config import StreamConfig
from braincl_med.streams.catalogue import is_phantom
from braincl_med.streams.named import datasets_of
from braincl_med.streams.tasks import Registry


def describe(registry: Registry, stream: StreamConfig) -> str:
    """One phrase for logs, results and the dashboard; synthetic scans are named loudly.

    >>> from braincl_med.streams.named import build_registry
    >>> describe(build_registry(StreamConfig(name="medmnist12"), 1), StreamConfig(name="medmnist12"))
    'MedMNIST (bloodmnist, breastmnist, pneumoniamnist), 28 px'
    """
    datasets = datasets_of(registry)
    real = [name for name in datasets if not is_phantom(name)]
    phantoms = [name for name in datasets if is_phantom(name)]
    source = "MedMNIST-format files, official or not" if stream.allow_unofficial else "MedMNIST"
    parts = [f"{source} ({', '.join(real)})"] if real else []
    parts += [f"SYNTHETIC PHANTOM SCANS, NOT MEDICAL DATA ({', '.join(phantoms)})"] if phantoms else []
    counted = ", evaluated on VALIDATION scans" if stream.evaluate == "val" else ""
    return f"{' and '.join(parts)}, {stream.size} px{counted}"
