"""How a cue file lies on the disk: plain, in one sealed file, or in two, so that cues and networks can lie apart.

    no key                    task-000.working.9f86d081.cue    the cue file as it is
    vault-key                 task-000.working.5d41402a.cue    sealed: the cue file
    vault-key, network-key    task-000.working.7215ee9c.cue    sealed under vault-key: the same without its network
                              task-000.working.aec070cb.net    sealed under network-key: the completion network

Functions of bytes; the vault reads and writes the files.
"""

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import sha256_of
from braincl_med.vault.cuefile import Header, split
from braincl_med.vault.envelope import Envelope, Part, Place, sealed
from braincl_med.vault.folders import file_name
from braincl_med.vault.keys import Key, Keys
from braincl_med.vault.manifest import Entry, Manifest, Network, Seal

VAULT_KEY, NETWORK_KEY = "vault-key", "network-key"


def stored(plain: bytes, header: Header, keys: Keys, hospital: str) -> tuple[Entry, dict[str, bytes]]:
    """What a cue file becomes on the disk.

    Args:
        plain: its bytes.
        header: its own.
        keys: none leaves it plain.
        hospital: whose it is; of no matter when it stays plain.

    Returns:
        Its entry in the manifest, and the content of each file by name.
    """
    files: dict[str, bytes] = {}

    def put(content: bytes, suffix: str) -> tuple[str, str]:
        digest = sha256_of(content)
        name = file_name(header.task, header.memory, digest, suffix)
        files[name] = content
        return name, digest

    def envelope(content: bytes, part: Part, key: Key) -> bytes:
        place = Place(
            hospital=hospital, experiment=header.experiment, task=header.task, memory=header.memory, part=part
        )
        return sealed(content, place, key)

    content, seal = plain, None
    if keys.vault is not None and keys.network is None:
        content = envelope(plain, "cue-file", keys.vault)
        seal = Seal(hospital=hospital, key=keys.vault.id)
    elif keys.vault is not None and keys.network is not None:
        cues, completion = split(plain)
        apart = envelope(completion, "network", keys.network)
        name, digest = put(apart, "net")
        network = Network(name=name, bytes=len(apart), sha256=digest, key=keys.network.id)
        content = envelope(cues, "cues", keys.vault)
        seal = Seal(hospital=hospital, key=keys.vault.id, network=network)
    name, digest = put(content, "cue")
    entry = Entry(
        name=name,
        task=header.task,
        memory=header.memory,  # type: ignore[arg-type]
        key=header.key,
        bytes=len(content),
        sha256=digest,
        seal=seal,
    )
    return entry, files


def envelope_of(content: bytes, entry: Entry, experiment: str, *, network: bool = False) -> Envelope:
    """The envelope of a sealed file, which stands where it says that it belongs; nothing is opened.

    Args:
        content: of the file.
        entry: as committed, sealed.
        experiment: in whose folder it lies.
        network: it is the file of the completion network.

    Raises:
        VaultError: it is no envelope, or belongs elsewhere.
    """
    assert entry.seal is not None
    part: Part = "network" if network else "cue-file" if entry.network is None else "cues"
    envelope = Envelope.parse(content)
    envelope.require(
        Place(hospital=entry.seal.hospital, experiment=experiment, task=entry.task, memory=entry.memory, part=part)
    )
    return envelope


def opened(content: bytes, entry: Entry, experiment: str, keys: Keys, *, network: bool = False) -> bytes:
    """What a committed file holds: itself when it is plain.

    Args:
        content, entry, experiment, network: see `envelope_of`; the entry may be plain.
        keys: of the vault.

    Raises:
        SealedError: it is sealed and its key is not there.
        VaultError: as `envelope_of`; it is another hospital's, sealed under another key, changed, or not the one
            that was committed; or it is plain where all must be sealed.
    """
    if entry.seal is None:
        if keys.vault is not None and not keys.plain_too:
            raise VaultError("it is plain, though there is a vault-key: seal the vault first (`braincl vault seal`)")
        return content
    envelope = envelope_of(content, entry, experiment, network=network)
    if keys.hospital not in ("", envelope.place.hospital):
        raise VaultError(f"it is sealed as {envelope.place}, this is '{keys.hospital}': give each its own vault")
    key, what = (keys.network, NETWORK_KEY) if network else (keys.vault, VAULT_KEY)
    inside = envelope.opened(key, what)
    committed = entry.network.sha256 if network and entry.network is not None else entry.sha256
    if sha256_of(content) != committed:
        raise VaultError("it is not the file that was committed: it was replaced by a former one")
    return inside


def hospital_of(manifest: Manifest, keys: Keys) -> str:
    """Whose the next file is, if these keys are the ones to write it with.

    Raises:
        VaultError: the vault is plain and there are keys, or sealed and there are none or others, or another's.
    """
    hospitals = manifest.hospitals | ({keys.hospital} if keys.hospital else set())
    for entry in manifest.entries:
        if entry.seal is None and keys.vault is not None:
            raise VaultError(
                "the vault is plain, though there is a vault-key: seal it first with `braincl vault seal`"
            )
        if entry.seal is None:
            continue
        own = tuple(key.id for key in (keys.vault, keys.network) if key is not None)
        if entry.seal.keys != own:
            given = f"the keys given are {', '.join(own)}" if own else "none was given"
            raise VaultError(
                f"the vault is sealed under {' and '.join(entry.seal.keys)}, {given}: give the former as "
                "vault-key, and as network-key where there are two"
            )
    if len(hospitals) > 1:
        raise VaultError(f"the vault is sealed as that of {' and '.join(map(repr, sorted(hospitals)))}: one is wrong")
    if keys.vault is not None and not hospitals:
        raise VaultError("nothing says whose vault it is: give the hospital's name")
    return next(iter(hospitals), "")
