"""Child processes to be killed or watched: forked from a server that has imported everything once."""

import multiprocessing
import os

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.vault.interruptions", "tests.federation.experiments", "braincl_med.federation.local", "apps.cli.launcher"]
)


def started(function, *arguments):
    """A child that carries out `function`, which is at the top of a module."""
    child = CONTEXT.Process(target=function, args=arguments)
    child.start()
    return child


def ended(function, *arguments):
    """How a child that carried out `function` ended: its exit status, or minus the signal that killed it."""
    child = started(function, *arguments)
    child.join()
    return child.exitcode


def send_stderr_to(path):
    """Let what this process and those below it write to standard error go to a file."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), 2)
