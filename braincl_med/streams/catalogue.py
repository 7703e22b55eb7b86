"""All data sets by name, whatever their source."""

from braincl_med.foundation.errors import ConfigError
from braincl_med.streams.own import spec_of
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import ClassSpec


def classes_of(dataset: str) -> tuple[ClassSpec, ...]:
    """The classes of `dataset` in the order of their labels, under the names a clinician reads.

    Raises:
        ConfigError: no such data set, or one that cannot be learned.
    """
    source = source_of(dataset)
    names = source.class_names(dataset)
    title = source.title(dataset)
    return tuple(ClassSpec(dataset=dataset, label=i, name=f"{title}: {name}") for i, name in enumerate(names))


def parse_class(text: str) -> ClassSpec:
    """The class that `dataset/label` or `dataset/class name` names; capitals do not matter in a class name.

    In a hospital's own scans any name of a class will do, with a code after `@` if it has one (`own.spec_of`).

    Raises:
        ConfigError: naming what is allowed instead.
    """
    dataset, slash, wanted = (part.strip() for part in text.partition("/"))
    if not slash or not wanted:
        raise ConfigError(f"class '{text}' is not of the form dataset/label, for example bloodmnist/0")
    if source_of(dataset).free_text:
        return spec_of(dataset, wanted)
    for spec in classes_of(dataset):
        if wanted.casefold() in (str(spec.label), spec.name.casefold(), spec.name.partition(": ")[2].casefold()):
            return spec
    allowed = "; ".join(f"{spec.label} ({spec.name.partition(': ')[2]})" for spec in classes_of(dataset))
    raise ConfigError(f"'{dataset}' has no class '{wanted}'; it has: {allowed}")
