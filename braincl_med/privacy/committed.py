"""Whether what a vault has committed is what it says, and holds nothing but what a hospital writes."""

import re
from pathlib import Path

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import LOCK_NAME
from braincl_med.memory.coding import Cues
from braincl_med.privacy.search import shown
from braincl_med.scans.names import label_of
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.folders import MANIFEST, file_name
from braincl_med.vault.manifest import Entry, Manifest
from braincl_med.vault.vault import Vault

FORMS = {
    "task_name": re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    "key": re.compile(r"[0-9a-f]{64}"),
    "experiment": re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    "coder": re.compile(r"constriction [0-9]{1,4}(\.[0-9]{1,4}){1,3}"),
    "dataset_label": re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[0-9]{1,5}"),
}
"""How a hospital writes the texts of cue files and of the log, so that hardly any is free to hold something else."""


def read_manifest(folder: Path) -> tuple[Manifest, list[str]]:
    """The manifest of one experiment's folder and what is wrong with it; an empty one if it is missing or refused."""
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        unused = {p.name for p in folder.iterdir()} == {LOCK_NAME}
        return Manifest(), [] if unused else ["is missing"]
    try:
        manifest = Vault(folder).manifest()
    except VaultError as error:
        return Manifest(), [f"is refused ({error})"]
    problems = []
    if path.read_bytes() != manifest.sealed():
        problems.append("holds more than a manifest")
    tasks = [e.task for e in manifest.entries]
    if tasks != sorted(set(tasks)):
        problems.append("names the files of a task twice or out of order")
    if len(manifest.hospitals) > 1:
        problems.append(f"names files of several hospitals: {', '.join(map(shown, sorted(manifest.hospitals)))}")
    return manifest, problems


def contradictions(path: Path, entry: Entry, file: CueFile) -> list[str]:
    """How the file at `path` differs from what its entry in the manifest says of it."""
    header = file.header
    expected = {
        "experiment": (header.experiment, path.parent.name),
        "key": (header.key, entry.key),
        "size": (path.stat().st_size, entry.bytes),
        "name": (entry.name, file_name(entry.task, entry.memory, entry.sha256, "cue")),
    }
    if entry.network is not None:
        network = entry.network
        expected["network's name"] = network.name, file_name(entry.task, entry.memory, network.sha256, "net")
    return [
        f"has {what} {seen!r}, expected {committed!r}"
        for what, (seen, committed) in expected.items()
        if seen != committed
    ]


def hidden(content: bytes, file: CueFile, cues: dict[int, Cues]) -> list[str]:
    """What lies in a cue file that does not follow from its `cues` and its network.

    Raises:
        BrainclError: they cannot be encoded again.
    """
    problems = []
    if file.packed_again(cues).to_bytes() != content:
        problems.append("holds bytes that do not follow from its cues and its network")
    header = file.header
    problems += strange_texts(
        task_name=header.task_name, key=header.key, coder=header.coder, experiment=header.experiment
    )
    for shard in header.shards:
        problems += strange_texts(dataset_label=shard.dataset_label)
        if not shard.records:
            problems.append(f"has class {shard.label} without records")
    return problems


def strange_texts(**texts: str) -> list[str]:
    """Texts that are not of the form in which a hospital writes them."""
    return [
        f"has {what} {shown(seen)}, which no hospital writes"
        for what, seen in texts.items()
        if not (FORMS[what].fullmatch(seen) or (what == "dataset_label" and _own_class(seen)))
    ]


def _own_class(text: str) -> bool:
    """Whether a text names a class of hospitals' own scans, which are known by names and not by numbers."""
    dataset, _, label = text.partition("/")
    return re.fullmatch(r"own(-[a-z0-9-]{1,58})?", dataset) is not None and label_of(label) == label
