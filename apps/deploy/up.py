"""Starts the programs of folders, watches them, and ends them together."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

from apps.deploy.enrol import enrol, home_of
from apps.deploy.layout import Hospital, Server, parts_in, read_settings, state_of
from apps.deploy.parts import SUPERLINK, Part, command_of, part_named, parts_of
from apps.deploy.watch import Watch
from apps.flower.programs import environment, vault_of
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.files import make_private, storage_error
from braincl_med.foundation.processes import end_with_parent

END_SECONDS = 15.0
PAUSE_SECONDS, TRIES = 10.0, 12
"""Before a folder is started again, and how often in a row: for about a minute the SuperLink takes a node that was
killed for connected, and refuses it."""
LASTING_SECONDS = 120.0
"""Who runs so long has started well."""
LOOK_SECONDS = 1.0


class Running:
    """The programs of one folder; leaving the block ends them, the last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.settings = read_settings(self.folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.began, self.failures = 0.0, 0

    def __enter__(self) -> "Running":
        """Start all parts; a server's SuperLink answers and knows its hospitals before the next one starts."""
        self.began = time.monotonic()
        try:
            for part in parts_of(self.settings):
                self.start(part)
                if part is SUPERLINK and isinstance(self.settings, Server):
                    for change in enrol(self.folder, self.settings):
                        print(change, flush=True)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def start(self, part: Part) -> None:
        """Start a part, or start it again; its output goes to a log in the state folder."""
        command, environment = prepared(part, self.folder, self.settings)
        log = state_of(self.folder, self.settings) / "logs" / f"{part.name}.log"
        make_private(log.parent)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            self.processes[part.name] = subprocess.Popen(
                command, cwd=state_of(self.folder, self.settings), env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )  # fmt: skip

    def ended(self) -> str | None:
        """What has ended without being asked to, as a sentence; None while all run."""
        for name, process in self.processes.items():
            if (status := process.poll()) is not None:
                return (
                    f"{self.folder.name}: {name} ended with status {status}; its last words are in "
                    f"{name}.log in the state folder's logs"
                )
        return None

    def mend(self) -> str | None:
        """Start all parts again where one has ended; what ended, or None.

        Raises:
            FederationError: that has happened too often.
        """
        reason = self.ended()
        if reason is not None:
            self.failures = 1 if time.monotonic() - self.began > LASTING_SECONDS else self.failures + 1
            if self.failures > TRIES:
                raise FederationError(reason)
            self.end()
            time.sleep(PAUSE_SECONDS)
            self.__enter__()
        return reason

    def end(self) -> None:
        """End every part and what it has started."""
        for process in reversed(self.processes.values()):
            _signal(process, signal.SIGTERM)
        for process in reversed(self.processes.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            _signal(process, signal.SIGKILL)
            process.wait()


def prepared(part: Part, folder: Path, settings: Server | Hospital) -> tuple[list[str], dict[str, str]]:
    """A part's command line and environment, once the folders that it writes are there.

    Raises:
        BrainclError: they cannot be made, or a program is missing.
    """
    state = state_of(folder, settings)
    try:
        make_private(state)
        if isinstance(settings, Hospital):
            make_private(vault_of(folder, settings))
            home = state / "flwr"
            make_private(home)
        else:
            home = home_of(folder, settings)
    except OSError as error:
        raise storage_error(state, 0, error) from error
    return command_of(part, folder, settings), environment(os.environ, home)


def replace_by(folder: Path, name: str) -> None:
    """Become one part of a folder, for whoever watches programs: systemd, or a container."""
    folder = folder.resolve()
    settings = read_settings(folder)
    command, environment = prepared(part_named(name, settings), folder, settings)
    os.chdir(state_of(folder, settings))
    os.execve(command[0], command, environment)


def up(folder: Path, ready: Callable[[str], None]) -> None:
    """Start what lies in `folder` and stay; what ends is started again with all of its folder.

    Raises:
        FederationError: a program ended again and again.
        BrainclError: one could not be started.
    """
    with contextlib.ExitStack() as stack:
        running, watches = [], []
        for part in parts_in(folder):
            running.append(stack.enter_context(Running(part)))
            ready(f"{part.name} runs: {', '.join(running[-1].processes)}")
            if isinstance(running[-1].settings, Server):
                watches.append(Watch(running[-1].folder, running[-1].settings))
        ready("all run; Ctrl-C ends them")
        while True:
            for each in running:
                if reason := each.mend():
                    ready(f"{reason}; started again")
            for watch in watches:
                for change in watch.changes():
                    ready(change)
            time.sleep(LOOK_SECONDS)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Tell the process's session, or nobody where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
