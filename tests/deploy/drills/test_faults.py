"""What may befall an experiment, on loopback with TLS, node keys and three SuperNodes.

The drills stand in the order in which they are run: one experiment goes through all of them.
"""

import contextlib
import resource

import pytest

from apps.deploy.renew import renew
from braincl_med.federation.checkpoint import folder_of
from braincl_med.federation.members import read_members, write_members
from braincl_med.records.store import RunStore
from tests.deploy.drills.federation import DRILL, LONGEST_SECONDS, reason_of, wait

pytestmark = DRILL


@pytest.fixture(scope="module")
def undisturbed(federation, tmp_path_factory):
    """What the drills' experiment comes to when nothing happens to it."""
    return federation.undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def sound(federation):
    yield
    federation.require_sound()


@pytest.mark.usefixtures("undisturbed", "sound")
def test_a_full_disk_in_encode(federation):
    with full_disk(federation, "hospital-2"):
        reason = reason_of(federation.run())
    assert "hospital-2: the disk is full" in reason, reason


@pytest.mark.usefixtures("sound")
def test_a_read_only_vault_in_encode(federation):
    with read_only(federation.vault("hospital-2").parent, federation.vault("hospital-2")):
        reason = reason_of(federation.run(resume=True))
    assert "hospital-2: " in reason, reason
    assert "cannot be written: the folder is read-only" in reason, reason


@pytest.mark.usefixtures("sound")
def test_a_hospital_that_is_killed_while_it_writes_its_vault(federation):
    run = federation.run(resume=True)
    vault = federation.vault("hospital-2")
    wait(lambda: any(vault.glob(".*.partial")) or any(vault.glob("*.cue")), "the first write", glance=0.001)
    with federation.killed("hospital-2"):
        print("found:", sorted(path.name for path in vault.iterdir()))
        assert "2 of 3 hospitals gave a usable answer" in reason_of(run)


@pytest.mark.usefixtures("sound")
def test_a_full_disk_of_the_server_in_wake(federation):
    run = federation.run(resume=True)
    federation.during("wake", "hospital-1")
    for process in federation.tasks("server", "executor"):
        process.rlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    assert "a full disk leaves none" in (reason := reason_of(run)), reason
    assert [step.phase for step in federation.steps()] == ["encode"]


@pytest.mark.usefixtures("sound")
def test_a_read_only_folder_of_the_server(federation):
    recorded = federation.steps()
    with read_only(folder_of(federation.state, "drill")):
        reason = reason_of(federation.run(resume=True))
    assert "cannot be written: the folder is read-only" in reason, reason
    assert federation.steps() == recorded


@pytest.mark.usefixtures("sound")
def test_a_server_that_is_killed_in_wake(federation):
    run = federation.run(resume=True)
    federation.during("wake", "hospital-1")
    with federation.killed("server"):
        pass
    reason_of(run)
    assert [step.phase for step in federation.steps()] == ["encode"]


@pytest.mark.usefixtures("sound")
def test_a_hospital_that_is_killed_in_sleep(federation):
    run = federation.run(resume=True)
    federation.during("sleep", "hospital-3")
    with federation.killed("hospital-3"):
        assert "2 of 3 hospitals gave a usable answer" in reason_of(run)


@pytest.mark.usefixtures("sound")
def test_a_server_app_that_is_killed_in_sleep(federation):
    recorded = federation.steps()
    run = federation.run(resume=True)
    federation.during("sleep", "hospital-1")
    for process in federation.tasks("server", "executor"):
        process.kill()
    reason_of(run)
    assert [step.phase for step in recorded] == ["encode", "wake", "select"]
    assert federation.steps() == recorded, "what was recorded was done again"


@pytest.mark.usefixtures("sound")
def test_a_hospital_with_a_new_key_goes_on_once_its_name_is_released(federation):
    """The server has a new certificate too."""
    recorded, experiment = federation.steps(), folder_of(federation.state, "drill")
    federation.stop("hospital-2", "server")
    renew(federation.folder, ["hospital-2"])
    federation.start("server", "hospital-2")
    reason = reason_of(federation.run(resume=True))
    assert "is bound to another node's key" in reason, reason
    assert federation.steps() == recorded
    write_members(experiment, read_members(experiment).released("hospital-2"))


@pytest.mark.usefixtures("sound")
def test_after_all_that_and_beside_others_it_ends_bit_for_bit_as_if_nothing_had_happened(federation, undisturbed):
    run = federation.run(resume=True)
    federation.during("sleep", "hospital-1")
    twin, beside = federation.run(resume=True), federation.run(name="beside")
    assert "is being written by" in (reason := reason_of(twin)), reason
    assert "has learned all 1 tasks" in run.result(LONGEST_SECONDS)
    assert federation.result() == undisturbed
    assert RunStore(federation.state).experiment("beside").status == "running"
    federation.stop_run()
    assert "finished:stopped" in (reason := reason_of(beside)), reason
    wait(lambda: RunStore(federation.state).experiment("beside").status == "stopped", "the end of what was stopped")


@contextlib.contextmanager
def full_disk(federation, hospital):
    """No file of this hospital's app may grow beyond 1 KB."""
    app = federation.process(hospital, "app")
    app.rlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    yield
    app.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def read_only(*folders):
    """Nothing can be made in these folders, for as long as the block lasts."""
    there = [folder for folder in folders if folder.is_dir()]
    for folder in there:
        folder.chmod(0o500)
    yield
    for folder in there:
        folder.chmod(0o700)
