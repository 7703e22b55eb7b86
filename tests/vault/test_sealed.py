"""A sealed vault: nothing plain in it, every exchange refused, erasure, rotation, and what is said without keys."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.foundation.errors import ConfigError, SealedError, VaultError
from braincl_med.privacy.audit import audit
from braincl_med.privacy.checks.titles import (
    BYTES_CHECK,
    CUES_CHECK,
    FILES_CHECK,
    FOLDER_CHECK,
    MANIFEST_CHECK,
    MODES_CHECK,
    SEAL_CHECK,
)
from braincl_med.vault.envelope import Envelope
from braincl_med.vault.keys import NO_KEYS, Key, Keys
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import check, verify

from .test_cuefile import cue_file

FIRST, SECOND, THIRD = (Key(bytes([n]) * 32) for n in (1, 2, 3))
ONE, TWO = Keys(FIRST, hospital="site-0"), Keys(FIRST, SECOND, "site-0")
LOOK = replace(TWO, hospital="", plain_too=True)
MARKS = (b"BRAINCUE", b"set/0", b"dataset_label")
"""What a plain cue file shows."""


@pytest.fixture(params=[ONE, TWO], ids=["one key", "two keys"])
def vault(request, tmp_path):
    """The sealed memories of two tasks, 8 records each."""
    vault = Vault(tmp_path / "site-0" / "trial", request.param)
    vault.remember(cue_file()[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    return vault


@pytest.fixture
def two(tmp_path):
    """The same with two keys."""
    vault = Vault(tmp_path / "site-0" / "trial", TWO)
    vault.remember(cue_file()[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    return vault


def plain_vault(folder):
    vault = Vault(folder)
    vault.remember(cue_file()[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    return vault


def contents(vault):
    return {path.name: path.read_bytes() for path in vault.folder.iterdir()}


def failures(folder, keys=NO_KEYS):
    (found,) = audit([folder], keys=keys)["vaults"]
    return {c["check"]: c["detail"] for c in found["checks"] if not c["passed"]}


def test_it_recalls_what_a_plain_one_does_and_shows_nothing_of_it(vault, tmp_path):
    plain = plain_vault(tmp_path / "plain" / "trial")
    assert np.array_equal(vault.recall(1).images, plain.recall(1).images)
    assert vault.plain(vault.entry(0)) == plain.plain(plain.entry(0))
    for name, content in contents(vault).items():
        assert not [mark for mark in MARKS if mark in content], name
    assert all(finding.sound for finding in verify(vault))
    check(Vault(vault.folder))
    assert failures(vault.folder.parent, replace(vault.keys, hospital="")) == {}


def test_sizes_are_the_bytes_on_disk(vault):
    vault.consolidate(1, {0: np.array([1]), 1: np.array([0])})
    sizes = vault.sizes()
    assert sizes.pop("records") == 10
    assert sum(sizes.values()) == sum(len(c) for name, c in contents(vault).items() if name != ".lock")


def test_each_write_has_a_data_key_of_its_own_and_an_erasure_destroys_the_former(vault, tmp_path):
    before = {path: path.read_bytes() for entry in vault.manifest().entries[:1] for path in vault.paths(entry)}
    vault.erase(0, "set/0", [2])
    assert not any(path.exists() for path in before)
    former = [Envelope.parse(content) for content in before.values()]
    now = [Envelope.parse(path.read_bytes()) for path in vault.paths(vault.entry(0))]
    for old in former:
        assert not any(old.wrapped.hex().encode() in content for content in contents(vault).values())
    assert len({e.wrapped for e in (*former, *now)}) == len(former) + len(now)
    assert vault.load(0).header.shards[0].ordinals == (0, 1, 3, 4)
    assert vault.erasures()[0].after == vault.entry(0).sha256
    # A backup of the former file opens with the hospital's key as long as that is in use.
    assert former[0].opened(FIRST, "vault-key")
    vault.seal(Keys(THIRD, hospital="site-0"))
    with pytest.raises(VaultError, match=f"sealed under key {FIRST.id}, this is key {THIRD.id}"):
        former[0].opened(THIRD, "vault-key")


def test_a_task_that_leaves_takes_both_files_with_it(two):
    two.erase(1, "set/0")
    two.erase(1, "set/1")
    assert len(list(two.folder.glob("*.cue"))) == len(list(two.folder.glob("*.net"))) == 1
    assert failures(two.folder.parent, LOOK) == {}


@pytest.mark.parametrize("suffix", ["cue", "net"])
@pytest.mark.parametrize("damage", ["changed", "cut", "swapped", "former"])
def test_a_file_that_is_not_the_committed_one_is_refused_in_one_sentence(two, suffix, damage):
    def file_of(task):
        return next(path for path in two.paths(two.entry(task)) if path.suffix == f".{suffix}")

    former = file_of(0).read_bytes()
    if damage == "former":
        two.remember(cue_file(seed=9)[0])
    path = file_of(0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 120] ^= 4
    new = {"changed": content, "cut": content[:-1], "swapped": file_of(1).read_bytes(), "former": former}[damage]
    path.write_bytes(new)
    reason = {
        "changed": "it was changed or damaged after it was sealed",
        "cut": "its lengths add up to",
        "swapped": "it was put in another's place",
        "former": "it is not the file that was committed",
    }[damage]
    with pytest.raises(VaultError, match=rf"^'{path.name}': .*{reason}") as refused:
        two.recall(0)
    assert str(two.folder.parent) not in str(refused.value)
    assert [finding.sound for finding in verify(two)][:2] == [False, True]
    assert f"'{path.name}'" in failures(two.folder.parent, LOOK)[FILES_CHECK]
    # Without keys too.
    assert [finding.sound for finding in verify(Vault(two.folder))][:2] == [False, True]
    assert f"'{path.name}'" in failures(two.folder.parent)[FILES_CHECK]


def test_a_committed_file_of_another_hospital_experiment_or_memory_is_refused(vault, tmp_path):
    """Also where the manifest was exchanged with it, and all hospitals of a simulation have one key."""
    other = Vault(tmp_path / "site-1" / "trial", replace(vault.keys, hospital="site-1"))
    other.remember(cue_file(seed=3)[0])
    shutil.rmtree(vault.folder)
    shutil.copytree(other.folder, vault.folder)
    with pytest.raises(VaultError, match=r"sealed as the .* at 'site-1', this is 'site-0'"):
        vault.recall(0)
    with pytest.raises(VaultError, match="the vault is sealed as that of 'site-0' and 'site-1'"):
        vault.remember(cue_file(task=4)[0])
    study = tmp_path / "site-0" / "study"
    shutil.copytree(other.folder, study)
    with pytest.raises(VaultError, match=r"of 'trial' at 'site-1', expected .* of 'study' at 'site-1'"):
        Vault(study, replace(vault.keys, hospital="site-1")).recall(0)
    # One committed beside those of its own.
    mine = Vault(tmp_path / "mine" / "trial", vault.keys)
    mine.remember(cue_file(task=5)[0])
    for path in other.paths(other.entry(0)):
        shutil.copy(path, mine.folder)
    (mine.folder / "manifest.json").write_bytes(mine.manifest().with_entry(other.entry(0)).sealed())
    assert (
        "names files of several hospitals: 'site-0', 'site-1'" in failures(mine.folder.parent, LOOK)[MANIFEST_CHECK]
    )


def test_wrong_and_missing_keys_are_told_by_their_ids(two):
    for keys, reason in {
        Keys(THIRD, SECOND, "site-0"): f"sealed under key {FIRST.id}, this is key {THIRD.id}",
        Keys(FIRST, THIRD, "site-0"): f"sealed under key {SECOND.id}, this is key {THIRD.id}",
        ONE: rf"sealed under key {SECOND.id}: give that key \(network-key\)",
        NO_KEYS: rf"sealed under key {FIRST.id}: give that key \(vault-key\)",
    }.items():
        with pytest.raises(VaultError, match=reason):
            Vault(two.folder, keys).recall(0)
        before = contents(two)
        with pytest.raises(VaultError, match=f"the vault is sealed under {FIRST.id} and {SECOND.id}, "):
            Vault(two.folder, keys).remember(cue_file(task=3)[0])
        assert {**contents(two), ".lock": b""} == {**before, ".lock": b""}
    assert Vault(two.folder, ONE).load_cues(two.entry(0)).records == 8


def test_a_hospital_with_a_key_takes_no_plain_memories(tmp_path):
    plain = plain_vault(tmp_path / "site-0" / "trial")
    keyed = Vault(plain.folder, ONE)
    with pytest.raises(VaultError, match=r"it is plain, though there is a vault-key: seal the vault first"):
        keyed.recall(0)
    with pytest.raises(VaultError, match=r"the vault is plain, though there is a vault-key"):
        keyed.remember(cue_file(task=2)[0])
    assert failures(tmp_path / "site-0", LOOK).keys() == {SEAL_CHECK}
    assert failures(tmp_path / "site-0") == {}


def test_a_mix_of_plain_and_sealed_memories_fails_the_audit(two, tmp_path):
    plain_vault(two.folder.parent / "other")
    assert "2 of 4 are plain" in failures(two.folder.parent)[SEAL_CHECK]


def test_networks_can_lie_elsewhere(tmp_path):
    apart = tmp_path / "stick"
    vault = Vault(tmp_path / "site-0" / "trial", replace(TWO, network_dir=apart))
    vault.remember(cue_file()[0])
    vault.consolidate(0, {0: np.array([1, 2]), 1: np.array([0])})
    assert not list(vault.folder.glob("*.net"))
    assert [path.name for path in (apart / "trial").iterdir()] == [vault.entry(0).network.name]
    assert len(vault.recall(0)) == 3
    with pytest.raises(VaultError, match=r"\.net' cannot be read: .* or say where it lies \(network-dir\)"):
        Vault(vault.folder, TWO).recall(0)
    assert failures(vault.folder.parent, replace(LOOK, network_dir=apart)) == {}
    (apart / "trial" / "notes.txt").write_text("x")
    found = failures(vault.folder.parent, replace(LOOK, network_dir=apart))
    assert "'trial/notes.txt' lies among the networks" in found[FOLDER_CHECK]
    # Moved back beside the cues they count there.
    (apart / "trial" / vault.entry(0).network.name).rename(vault.folder / vault.entry(0).network.name)
    assert len(Vault(vault.folder, TWO).recall(0)) == 3


def test_an_audit_without_keys_says_what_it_could_not_do(two):
    found = failures(two.folder.parent)
    assert found.keys() == {CUES_CHECK, BYTES_CHECK}
    assert f"was not decoded ('{two.entry(0).name}': it is sealed under key {FIRST.id}" in found[CUES_CHECK]
    (report,) = audit([two.folder.parent], keys=LOOK)["vaults"]
    assert report["passed"]
    assert report["files"][0]["stored"] == f"sealed ({FIRST.id}, {SECOND.id})"
    assert report["files"][0]["bytes"] == sum(p.stat().st_size for p in two.paths(two.entry(0)))
    (sealed,) = [c["detail"] for c in report["checks"] if c["check"] == SEAL_CHECK]
    assert sealed == f"2 sealed ({FIRST.id}, {SECOND.id})"


def test_folders_and_files_are_made_for_their_owner_alone_and_wider_ones_fail(two):
    site = two.folder.parent
    modes = {p.name: p.stat().st_mode & 0o777 for p in [site, *site.rglob("*")]}
    assert modes.pop("site-0") == modes.pop("trial") == 0o700
    assert set(modes.values()) == {0o600}
    site.chmod(0o750)
    two.folder.chmod(0o755)
    (two.folder / "manifest.json").chmod(0o640)
    found = failures(site, LOOK)
    assert found.keys() == {MODES_CHECK}
    assert found[MODES_CHECK] == (
        "'site-0' has mode 0750, expected 0700; 'trial' has mode 0755, expected 0700; "
        "'trial/manifest.json' has mode 0640, expected 0600"
    )
    two.remember(cue_file(task=3)[0])
    site.chmod(0o700)
    assert failures(site, LOOK) == {}


def braincl(*arguments, **environment):
    done = CliRunner().invoke(app, ["vault", *map(str, arguments)], env=environment)
    return done.output.splitlines() if done.exception is None else done.exception


@pytest.fixture
def places(tmp_path):
    """Files of the three keys."""
    found = []
    for number, key in enumerate((FIRST, SECOND, THIRD)):
        path = tmp_path / f"{number}.key"
        path.write_bytes(key.secret)
        path.chmod(0o600)
        found.append(f"file:{path}")
    return found


def test_a_plain_vault_is_sealed_opened_erased_from_and_given_other_keys_by_commands(tmp_path, places):
    first, second, third = places
    site = tmp_path / "site-0"
    plain = plain_vault(site / "trial")
    images = plain.recall(0).images
    assert str(braincl("seal", site)).startswith("nothing says which key")
    under = f"sealed under {FIRST.id} and {SECOND.id}"
    keys = ("--vault-key", first, "--network-key", second)
    assert braincl("seal", site, *keys) == [f"site-0/trial: 2 tasks {under} as those of 'site-0'"]
    assert braincl("seal", site, *keys) == [f"site-0/trial: {under} already"]
    assert np.array_equal(Vault(site / "trial", TWO).recall(0).images, images)
    assert not list(site.rglob(".*.partial"))
    assert len(list(site.rglob("*.cue"))) == len(list(site.rglob("*.net"))) == 2

    # Without keys structure and checksums, with the first one the classes, with both everything.
    stored = f"sealed ({FIRST.id}, {SECOND.id})"
    verified = braincl("verify", site)
    assert verified[0].startswith(f"site-0/trial: task 0 (working): present as committed, {stored}, neither opened")
    row = json.loads("\n".join(braincl("list", site, "--json")))[0]
    assert (row["stored"], "classes" in row) == (stored, False)
    cues_alone = braincl("verify", site, BRAINCL_VAULT_KEY=first)
    assert "8 records decode" in cues_alone[0]
    assert "the network not opened" in cues_alone[0]
    row = json.loads("\n".join(braincl("list", site, "--json", BRAINCL_VAULT_KEY=first)))[0]
    assert row["records"] == 8
    assert sum(row["bytes"].values()) == sum(
        path.stat().st_size for path in Vault(site / "trial").paths(Vault(site / "trial").entry(0))
    )
    both = {"BRAINCL_VAULT_KEY": first, "BRAINCL_NETWORK_KEY": second}
    assert braincl("verify", site, **both)[1] == f"site-0/trial: task 1 (working): readable, 8 records, {stored}"
    assert stored in braincl("list", site, **both)[1]

    erasing = ("erase", site / "trial", "--task", 0, "--record", "set/0:1", "--yes")
    assert isinstance(braincl(*erasing), SealedError)
    assert "erased 1 record of class 'set/0'" in braincl(*erasing, **both)[-1]

    refused = braincl("seal", site, "--vault-key", third)
    assert isinstance(refused, SealedError)
    assert str(refused).endswith("here as --from-key or --from-network-key")
    rotated = braincl("seal", site, "--vault-key", third, "--from-key", first, "--from-network-key", second)
    assert rotated == [f"site-0/trial: 2 tasks sealed under {THIRD.id} as those of 'site-0'"]
    assert not list(site.rglob("*.net"))
    assert Vault(site / "trial", Keys(THIRD)).load(0).records == 7
    done = CliRunner().invoke(app, ["audit", str(site), "--vault-key", third])
    assert done.exit_code == 0
    assert f"2 sealed ({THIRD.id})" in done.output


def test_a_command_without_a_usable_key_says_why_and_not_what(tmp_path, places):
    site = tmp_path / "site-0"
    plain_vault(site / "trial")
    wrong = FIRST.secret.hex()
    refused = braincl("list", site, "--vault-key", wrong)
    assert isinstance(refused, ConfigError)
    assert wrong not in str(refused)
