"""What a hospital keeps of its releases, as an audit accounts for it: the ledger, and the answers that it names."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from braincl_med.dp.ledger import NAME, SUFFIX, Entry, Ledger
from braincl_med.foundation.errors import BrainclError
from braincl_med.foundation.files import LOCK_NAME, canonical_json, sha256_of
from braincl_med.privacy.accounting import LOCK_CONTENT, Accounted, Place


def accounted_releases(folder: Path, place: Place) -> Accounted:
    """What lies in a hospital's folder of releases: noisy sums, or networks trained under noise, as they were sent.

    Args:
        folder: that folder.
        place: how the audit calls a file.
    """
    own, problems, unknown = 0, [], []
    try:
        entries = Ledger(folder.parent, 0.0, 0.5).entries()
    except BrainclError as error:
        entries, problems = (), [f"{place(folder)}: {error}"]
    for path in sorted(folder.iterdir()):
        plain = path.is_file() and not path.is_symlink()
        if plain and _belongs(path, entries):
            own += 1
            continue
        problems.append(f"{place(path)} does not belong to what a hospital keeps of its releases")
        inside = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
        unknown += [p for p in inside if p.is_file() and not p.is_symlink()]
    return Accounted(own, tuple(problems), tuple(unknown))


def _belongs(path: Path, entries: tuple[Entry, ...]) -> bool:
    """Whether a file is the ledger, its lock, or an answer that it names, and holds nothing besides."""
    content = path.read_bytes()
    if path.name == LOCK_NAME:
        return LOCK_CONTENT.fullmatch(content) is not None
    if path.name == NAME:
        return bool(entries) and exactly(content, "ledger")
    answers = [entry.answer for entry in entries if f"{entry.experiment}.{entry.order[:16]}{SUFFIX}" == path.name]
    # An answer lies there before the ledger has its digest, should the program end in between.
    if not answers or ("" not in answers and sha256_of(content) not in answers):
        return False
    return _tensors_alone(content)


def _tensors_alone(content: bytes) -> bool:
    """Whether a file of tensors is what these are saved as, all of them numbers that were learned or counted."""
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError):
        return False
    wide = all(tensor.is_floating_point() or tensor.element_size() == 8 for tensor in tensors.values())
    return wide and save_tensors(tensors) == content


def exactly(content: bytes, key: str) -> bool:
    """Whether a file is `{key: …, "sha256": …}` in its one spelling, without anything that no reader looks at."""
    try:
        held = json.loads(content)
        return isinstance(held, dict) and held.keys() == {key, "sha256"} and canonical_json(held) == content
    except ValueError:
        return False
