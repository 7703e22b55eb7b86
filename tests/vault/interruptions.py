"""Child processes that carry out one operation on a vault and are interrupted at its N-th step.

A step is a call that changes the disk: making a file or folder, writing, fsync, renaming, deleting.
"""

import errno
import os
import resource
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil

from braincl_med.foundation.errors import VaultError
from braincl_med.vault.keys import NO_KEYS, Key, Keys
from braincl_med.vault.vault import Vault
from tests.children import CONTEXT, ended, started

from .test_cuefile import cue_file

UNDISTURBED, FINISHED, REFUSED, KILLED = 0, 3, 4, -signal.SIGKILL
"""How a child ended: N was beyond its last step; it got over the failure; it raised VaultError; it was killed."""

OPERATIONS = {
    "remember": lambda vault: vault.remember(cue_file(task=2, seed=2)[0]),
    "replace": lambda vault: vault.remember(cue_file(task=0, seed=3)[0]),
    "consolidate": lambda vault: vault.consolidate(0, {0: np.array([4, 1]), 1: np.array([0])}),
    "erase": lambda vault: vault.erase(0, "set/0", [0, 3]),
    "erase-task": lambda vault: vault.erase(1, "set/1"),
}
SEALED = Keys(Key(bytes(range(32))), Key(bytes(range(32, 64))), "st-elsewhere")
ROTATED = Keys(Key(bytes(range(64, 96))), None, "st-elsewhere")
ON_SEALED = {"erase": OPERATIONS["erase"], "seal": lambda vault: vault.seal(ROTATED)}


def fill(vault):
    """Two tasks, the second consolidated to one class, and one erasure in the log."""
    vault.remember(cue_file(records=(6, 3))[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    vault.consolidate(1, {0: np.array([], np.int64), 1: np.array([0, 2])})
    vault.erase(0, "set/0", [5])


@contextmanager
def interrupted(at, mode):
    """Interrupt the `at`-th step, or for want of space let it fail (`full-once`), or it and all behind it (`full`).

    Args:
        at: counts from 1.
        mode: `kill`, `stop`, `full-once` or `full`.

    Yields:
        a list whose length is the number of steps so far.
    """
    steps = []

    def step(name, half=lambda: None):
        steps.append(name)
        if len(steps) < at or (len(steps) > at and mode != "full") or (mode == "full" and name == "unlink"):
            return
        half()
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            raise OSError(errno.ENOSPC, "No space left on device")

    def counted(name):
        # A step to be interrupted at; but nobody cuts the power, so no test has to wait for the disk.
        function = getattr(os, name) if name != "fsync" else lambda handle: None

        def call(*arguments, **named):
            step(name)
            return function(*arguments, **named)

        return call

    class Torn:
        """A file of which half is written when its write is interrupted."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            def half():
                self.file.write(content[: len(content) // 2])
                self.file.flush()

            step("write", half)
            self.file.write(content)

    # Heard of by whatever way a file is opened. Such a hook cannot be taken back, but the child ends soon.
    sys.addaudithook(lambda event, about: step(event) if event == "open" and about[2] & os.O_CREAT else None)
    former = {name: getattr(os, name) for name in (*STEPS, "fdopen")}
    for name in STEPS:
        setattr(os, name, counted(name))
    os.fdopen = lambda *arguments, **named: Torn(former["fdopen"](*arguments, **named))
    try:
        yield steps
    finally:
        for name, function in former.items():
            setattr(os, name, function)


STEPS = ("mkdir", "fsync", "replace", "unlink", "ftruncate", "pwrite")


def carry_out(operation, folder, at, mode, keys=NO_KEYS):
    """Carry out an operation in a child process; returns how it ended."""
    return ended(_carry_out, operation, folder, at, mode, keys)


def _carry_out(operation, folder, at, mode, keys=NO_KEYS):
    with interrupted(at, mode) as steps:
        try:
            (ON_SEALED if keys.vault else OPERATIONS)[operation](Vault(folder, keys))
        except VaultError:
            os._exit(REFUSED)
    os._exit(UNDISTURBED if len(steps) < at else FINISHED)


def stopped_while_writing(folder):
    """A child that was stopped while it holds the vault's lock and has a file half written."""
    child = started(_carry_out, "remember", folder, 7, "stop")
    patience = time.monotonic() + 60
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < patience
        time.sleep(0.01)
    return child


def write_again_and_again(folder, times):
    """A child that replaces a task's memory many times, each file by another."""
    return started(_write_again_and_again, folder, times)


def _write_again_and_again(folder, times):
    os.fsync = lambda handle: None
    file = cue_file()[0]
    for number in range(times):
        Vault(folder).remember(replace(file, header=file.header.model_copy(update={"key": str(number)})))


def said(function, *arguments):
    """What a function answered in a child process, or the sentence with which it was refused."""
    here, there = CONTEXT.Pipe()
    child = CONTEXT.Process(target=_said, args=(there, function, *arguments))
    child.start()
    there.close()
    answer = here.recv()
    child.join()
    return answer


def _said(pipe, function, *arguments):
    try:
        pipe.send(function(*arguments))
    except VaultError as error:
        pipe.send(str(error))


def operate_with_small_files_only(operation, folder, size):
    """An operation under a limit that the system sets on the size of every file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    OPERATIONS[operation](Vault(folder))


def operate_without_privileges(operation, folder):
    """An operation as a user who may not write to the folder."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return OPERATIONS[operation](Vault(folder)) if operation else [f.detail for f in _verified(folder)]


def _verified(folder):
    from braincl_med.vault.verify import verify

    return verify(Vault(folder))
