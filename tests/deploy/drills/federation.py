"""A server and hospitals as processes, from the folders that `deploy init` writes, to be broken and looked at."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import psutil
import pytest

from apps.deploy.enrol import flwr_of
from apps.deploy.init import initialise
from apps.deploy.layout import read_settings
from apps.deploy.parts import command_of
from apps.deploy.submit import state_for, submit
from apps.deploy.up import Running
from apps.flower.programs import vault_of
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.foundation.errors import BrainclError
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from braincl_med.vault.folders import is_experiment
from braincl_med.vault.keys import NO_KEYS
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import verify

DRILL = [
    pytest.mark.flower,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("BRAINCL_DRILLS" not in os.environ, reason="takes minutes: `make deploy-test` runs it"),
]
SMALL = """
name: drill
stream: {name: phantom, task-count: 1, train-per-class: 12, test-per-class: 6}
federation: {hospitals: 3, wait-seconds: 60, round-timeout-seconds: 240}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {stem: 3x3-stride2}
wake: {learning-rate: 0.003, epochs: 1}
selection: {per-class: 8}
sleep: {rounds: 1, epochs: 2, batch-size: 16, learning-rate: 0.02}
"""
HOSPITALS = ("hospital-1", "hospital-2", "hospital-3")
PHASES = ("encode", "wake", "select", "sleep", "calibrate", "evaluate")
LONGEST_SECONDS = 900.0
GLANCE_SECONDS = 0.1


class Federation:
    """The folders of a server and three hospitals on loopback, and what runs of them."""

    def __init__(self, folder):
        self.folder = folder
        initialise(folder, "127.0.0.1", len(HOSPITALS), port=free_base())
        self.server = read_settings(folder / "server")
        self.state = state_for(folder / "server", self.server)
        self.running = {}
        self.threads = ThreadPoolExecutor()

    def start(self, *names):
        """Start folders' programs; returns once the hospitals among them have been let in."""
        told = {name: self.link_log(name) for name in names}
        for name in names:
            self.running[name] = Running(self.folder / name).__enter__()
        for name in set(names) & set(HOSPITALS):
            wait(partial(self.is_online, name, len(told[name])), f"{name} online")

    def is_online(self, name, since):
        """Whether a SuperNode has been let in since its log was so long; one that was refused tries again."""
        return self.running[name].mend() is None and "SuperNode ID" in self.link_log(name)[since:]

    def link_log(self, name):
        log = self.folder / name / "state" / "logs" / "supernode.log"
        return log.read_text() if log.is_file() else ""

    def stop(self, *names):
        for name in names:
            self.running.pop(name).end()

    def kill(self, name):
        """SIGKILL to every program of a folder and to all that these have started."""
        killed = list(self.running.pop(name).processes.values())
        for process in reversed(killed):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in killed:
            process.wait()

    @contextlib.contextmanager
    def killed(self, name):
        """The folder's programs are killed, and started again after the block."""
        self.kill(name)
        try:
            yield
        finally:
            self.start(name)

    def process(self, name, part):
        return psutil.Process(self.running[name].processes[part].pid)

    def tasks(self, name, part="app"):
        """The processes that work on a task of this hospital (or, of the executor, on the server's app)."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.process(name, part).children(recursive=True)
        return []

    def run(self, text=SMALL, **overrides) -> Future:
        """Submit an experiment; the future holds its last sentence, or the reason why it failed."""
        keys = {key.replace("_", "-"): value for key, value in overrides.items()}
        config = load_experiment(text, {"state-root": str(self.state), **keys})
        return self.threads.submit(submit, self.folder, config)

    def steps(self, name="drill", task=0):
        with contextlib.suppress(BrainclError):
            return [step for step in RunStore(self.state).steps(name) if step.task == task]
        return []

    def stop_run(self):
        """`flwr stop`, of the one run that goes on; again, as an operator would, where a busy SuperLink is late."""
        flwr = flwr_of(self.folder / "server", self.server)

        def is_stopped():
            running = flwr.going_on()
            assert len(running) <= 1
            return not running or flwr.stop(running[0])

        wait(is_stopped, "flwr stop", 120, glance=1)

    def goes_on(self, name):
        with contextlib.suppress(BrainclError):
            return RunStore(self.state).experiment(name).status == "running"
        return False

    def during(self, phase, hospital, name="drill", task=0):
        """Wait until `hospital` works on `phase` of a task of the experiment."""
        before = PHASES.index(phase)
        # What is left of a former run may still be worked on when the next one begins.
        wait(lambda: self.goes_on(name) and len(self.steps(name, task)) == before, f"{phase} of {name}")
        wait(lambda: self.tasks(hospital), f"{hospital} in {phase} of {name}")
        time.sleep(0.5)
        assert len(self.steps(name, task)) == before, f"{phase} was over before it could be disturbed"

    def vault(self, hospital, name="drill"):
        return vault_of(self.folder / hospital, read_settings(self.folder / hospital)) / name

    def checkpoint(self, name="drill"):
        return load_checkpoint(folder_of(self.state, name))

    def require_sound(self, name="drill"):
        """Every vault verifies, and names the classes of its tasks as the server's registry does."""
        registry = RunStore(self.state).experiment(name).registry
        for hospital in HOSPITALS:
            vault = Vault(self.vault(hospital, name), NO_KEYS)
            if is_experiment(vault.folder):
                assert all(finding.sound for finding in verify(vault)), hospital
                for entry in vault.manifest().entries:
                    told = {each.key: registry.classes.index(each) for each in registry.tasks[entry.task].classes}
                    shards = vault.load_entry(entry).header.shards
                    assert {shard.dataset_label: shard.label for shard in shards} == told, hospital

    def result(self, name="drill"):
        """What must be the same bit for bit: the network's digest, and those of all cue files."""
        cues = {hospital: digests(self.vault(hospital, name)) for hospital in HOSPITALS}
        return self.checkpoint(name).sha256, cues

    def undisturbed(self, folder):
        """The same of an experiment that nothing disturbs, over hospitals in this very process."""
        config = load_experiment(SMALL, {"state-root": str(folder)})
        named = [replace(one, name=name) for one, name in zip(local_hospitals(config), HOSPITALS, strict=True)]
        Coordinator(config, local_exchange(named)).run()
        cues = {name: digests(folder / f"site-{number}" / "drill") for number, name in enumerate(HOSPITALS)}
        return load_checkpoint(folder_of(folder, "drill")).sha256, cues

    def close(self):
        for name in reversed(list(self.running)):
            self.stop(name)
        self.threads.shutdown(wait=False, cancel_futures=True)


def bounded(part, folder, settings):
    """A part's command line; where root calls it, one that modes of folders bind, like a service."""
    command = command_of(part, folder, settings)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command] if os.geteuid() == 0 else command


def digests(vault):
    """File name → SHA-256 of every cue file of an experiment's vault."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vault.glob("*.cue")}


def free_base():
    """A port such that it, the next one and the hospitals' are free."""
    while True:
        base = random.randrange(20000, 50000, 10)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in (base, base + 1, *(base + 100 + number for number in range(len(HOSPITALS)))):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base


def wait(holds, what, seconds=LONGEST_SECONDS, glance=GLANCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not (held := holds()):
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(glance)
    return held


def reason_of(future):
    """Why a run failed."""
    error = future.exception(LONGEST_SECONDS)
    assert isinstance(error, BrainclError), error
    return str(error)
