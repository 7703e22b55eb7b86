"""A name belongs to the key of the node that first answered under it, in this run and in later ones."""

import dataclasses

import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.federation.checkpoint import folder_of
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.federation.members import NAME, Members, read_members, write_members
from braincl_med.foundation.errors import ConfigError, VaultError
from braincl_med.messages.report import Report
from braincl_med.records.store import RunStore
from tests.federation.experiments import as_if_learned, tiny
from tests.federation.test_exchange import answer, asked, federation

KEYS = ["0" * 64, "1" * 64, "2" * 64]


def keyed(number, key=None, **changes):
    return answer(number, key=KEYS[number] if key is None else key, **changes)


def test_another_node_cannot_answer_under_a_name_in_a_later_run():
    first = federation([keyed(0), keyed(1)], hospitals=2)
    asked(first)
    # Node ids are new ones, the owner of site-1 is away, and its name is taken by whoever comes.
    later = federation([keyed(0, sender="70"), keyed(2, name="site-1", sender="71")], hospitals=2)
    later.members = first.members
    outcome = asked(later)
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert "'site-1', which is bound to another node's key" in outcome.missing["node-71"]
    # Nor by a node of which nobody vouches for a key.
    unkeyed = federation([keyed(0), answer(1)], hospitals=2)
    unkeyed.members = first.members
    assert [r.hospital for r in asked(unkeyed).usable] == ["site-0"]


def test_with_the_owner_at_hand_the_other_alone_is_refused():
    hospitals = federation([keyed(0), keyed(1), keyed(2)])
    asked(hospitals)
    hospitals.names.clear()
    hospitals.exchange = lambda order: [keyed(0), keyed(1), keyed(2, name="site-1")]
    outcome = asked(hospitals)
    assert [r.sender for r in outcome.usable] == ["0", "1"]
    assert "its key is that of 'site-2'" in outcome.missing["site-2"]


def test_a_refused_answer_binds_no_name():
    hospitals = federation([keyed(0), keyed(2, name="site-1", failure="it burns")])
    asked(hospitals)
    hospitals.exchange = lambda order: [keyed(0), keyed(1)]
    assert [r.hospital for r in asked(hospitals).usable] == ["site-0", "site-1"]


def test_without_keys_a_name_is_bound_within_a_run_alone():
    first = federation([answer(0), answer(1)], hospitals=2)
    asked(first)
    later = federation([answer(5, name="site-0"), answer(6, name="site-1")], hospitals=2)
    later.members = first.members
    assert len(asked(later).usable) == 2


def test_a_released_name_goes_to_the_node_that_comes(tmp_path):
    config = as_if_learned(tiny(tmp_path))
    folder = folder_of(tmp_path, config.name)
    write_members(folder, Members().bound([keyed(0), keyed(1)]))
    listed = CliRunner().invoke(app, ["hospitals", "tiny", "--state", str(tmp_path)])
    assert listed.output.splitlines() == [f"site-{n}  bound to key {KEYS[n][:16]}" for n in range(2)]
    with pytest.raises(ConfigError, match=r"no node's key holds the name 'site-7'.*site-0, site-1"):
        read_members(folder).released("site-7")
    assert (
        CliRunner().invoke(app, ["hospitals", "tiny", "--release", "site-1", "--state", str(tmp_path)]).exit_code == 0
    )
    hospitals = federation([keyed(0), keyed(2, name="site-1")], hospitals=2)
    hospitals.members = read_members(folder)
    assert [r.hospital for r in asked(hospitals).usable] == ["site-0", "site-1"]
    assert hospitals.members.key_of("site-1") == KEYS[2]


def test_what_is_remembered_is_read_back_or_refused(tmp_path):
    members = Members().bound([keyed(0)]).encoding(1, [Report("site-0", 12), Report("site-1", 0)]).begun_with(50, 2)
    write_members(tmp_path, members)
    assert read_members(tmp_path) == members
    assert members.members["site-0"].encoded == {1: 12}
    assert "site-1" not in members.members, "a hospital without scans may have some later"
    assert members.begun_with(20, 1).most_per_class == 50
    assert members.begun_with(20, 1).members["site-0"].encoded == {}
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes().replace(b"12", b"13"))
    with pytest.raises(VaultError, match="'members\\.json' is damaged"):
        read_members(tmp_path)


def test_a_run_remembers_keys_and_what_was_encoded_and_holds_a_later_run_to_them(tmp_path):
    config = tiny(tmp_path, stream_task_count=1, federation_hospitals=3, federation_quorum=2, resume=True)
    exchange = local_exchange(local_hospitals(config))

    def changed(**by_phase):
        def keyed_exchange(order):
            reports = [dataclasses.replace(r, key=KEYS[int(r.sender)]) for r in exchange(order)]
            *others, last = reports
            return [*others, dataclasses.replace(last, **by_phase.get(order.phase, {}))]

        return keyed_exchange

    claims = {"examples": 10**8}
    Coordinator(config, changed(wake=claims, sleep={"key": KEYS[0]}, evaluate={"examples": 19})).run()
    missing = {step.phase: step.missing for step in RunStore(tmp_path).steps("tiny")}
    members = read_members(folder_of(tmp_path, "tiny"))
    assert [members.key_of(f"site-{n}") for n in range(3)] == KEYS
    encoded = members.members["site-2"].encoded[0]
    assert missing["encode"] == missing["select"] == missing["calibrate"] == {}
    assert missing["wake"] == {"site-2": f"it claims 100,000,000 samples, and can have {encoded}"}
    assert missing["sleep"] == {"site-2": "it answers as 'site-2', and its key is that of 'site-0'"}
    assert "it claims 19 scans, and counts" in missing["evaluate"]["site-2"]
