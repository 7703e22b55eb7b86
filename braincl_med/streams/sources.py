"""Where data sets come from: one `Source` a kind, and the list in which a data set's source is looked up."""

from collections.abc import Sequence
from typing import Protocol

from braincl_med.foundation.arrays import Split
from braincl_med.settings.config import StreamConfig
from braincl_med.streams import medmnist, phantom
from braincl_med.streams.held import Held
from braincl_med.streams.own import OwnScans
from braincl_med.streams.place import Place
from braincl_med.streams.tasks import ClassSpec


class Source(Protocol):
    """A kind of data sets. Nothing is kept: each call reads what it needs anew.

    Attributes:
        synthetic: whether its scans are drawn and say nothing about medicine.
        unknown: the data set that stands for unknown scans where the configuration names none.
        free_text: whether its classes are whatever hospitals' labels say, and no list has them.
    """

    synthetic: bool
    unknown: str
    free_text: bool

    def holds(self, dataset: str) -> bool:
        """Whether a data set of this name is of this kind; whether there is one `class_names` says."""

    def title(self, dataset: str) -> str:
        """What stands before the names of its classes."""

    def class_names(self, dataset: str) -> tuple[str, ...]:
        """Its classes in the order of their labels.

        Raises:
            ConfigError: there is no such data set, or none that can be learned.
        """

    def shared(self, dataset: str, place: Place) -> bool:
        """Whether all hospitals have the same scans there, of which each takes its share."""

    def require(self, classes: Sequence[ClassSpec], split: Split, stream: StreamConfig, place: Place) -> None:
        """See that hospitals whose scans lie on this machine have some of a split of these classes of one set.

        Raises:
            DataError: as `held`.
        """

    def held(self, dataset: str, split: Split, stream: StreamConfig, place: Place) -> Held:
        """A split as it is now.

        Args:
            dataset: of this kind.
            split: of it.
            stream: size and what may be fetched.
            place: where this hospital's scans are looked for.

        Raises:
            DataError: the scans cannot be used; MissingScansError if they are not there.
        """

    def described(self, datasets: Sequence[str], stream: StreamConfig) -> str:
        """These data sets in words, for logs, results and the dashboard."""


class MedMnist:
    """MedMNIST's files, and whatever name no other source holds: this one says that there is no such set."""

    synthetic = False
    unknown = "retinamnist"
    free_text = False

    def holds(self, dataset: str) -> bool:
        """Every name that is left."""
        return True

    def title(self, dataset: str) -> str:
        """`blood` of `bloodmnist`."""
        return dataset.removesuffix("mnist")

    def class_names(self, dataset: str) -> tuple[str, ...]:
        """As MedMNIST describes them."""
        return medmnist.class_names(dataset)

    def shared(self, dataset: str, place: Place) -> bool:
        """Always: the files are the same everywhere."""
        return True

    def require(self, classes: Sequence[ClassSpec], split: Split, stream: StreamConfig, place: Place) -> None:
        """By their labels."""
        self.held(classes[0].dataset, split, stream, place)

    def held(self, dataset: str, split: Split, stream: StreamConfig, place: Place) -> Held:
        """Read from the file, which is fetched first if that is needed and allowed."""
        size, folder, unofficial = stream.size, place.folder, stream.allow_unofficial
        medmnist.ensure(dataset, size, folder, stream.download, unofficial)
        labels = medmnist.labels(dataset, split, size, folder, unofficial)
        return Held(labels, lambda rows: medmnist.load(dataset, split, size, folder, unofficial, rows)[0])

    def described(self, datasets: Sequence[str], stream: StreamConfig) -> str:
        """With a word on whether the files are sure to be official."""
        source = "MedMNIST-format files, official or not" if stream.allow_unofficial else "MedMNIST"
        return f"{source} ({', '.join(datasets)})"


class Phantom:
    """Synthetic scans, drawn by formula."""

    synthetic = True
    unknown = "phantom-fundus"
    free_text = False

    def holds(self, dataset: str) -> bool:
        """All names that begin like a phantom's, so that a misspelt one is not looked for among files."""
        return dataset.startswith("phantom")

    def title(self, dataset: str) -> str:
        """`synthetic smear`, for example."""
        return phantom.title(dataset)

    def class_names(self, dataset: str) -> tuple[str, ...]:
        """Of the modality."""
        return phantom.class_names(dataset)

    def shared(self, dataset: str, place: Place) -> bool:
        """Always: the same scans are drawn everywhere."""
        return True

    def require(self, classes: Sequence[ClassSpec], split: Split, stream: StreamConfig, place: Place) -> None:
        """Nothing is missing ever."""

    def held(self, dataset: str, split: Split, stream: StreamConfig, place: Place) -> Held:
        """Class by class, drawn for the asking."""
        labels = phantom.labels(dataset, split)
        return Held(labels, lambda rows: phantom.load(dataset, split, stream.size, rows)[0])

    def described(self, datasets: Sequence[str], stream: StreamConfig) -> str:
        """Loudly."""
        return f"SYNTHETIC PHANTOM SCANS, NOT MEDICAL DATA ({', '.join(datasets)})"


SOURCES: list[Source] = [Phantom(), OwnScans(), MedMnist()]
"""All sources; the first that holds a name has it."""


def source_of(dataset: str) -> Source:
    """The source of a data set."""
    return next(source for source in SOURCES if source.holds(dataset))
