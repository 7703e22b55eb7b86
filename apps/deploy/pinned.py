"""A hospital's executor: takes the tasks of its SuperNode, and answers them with the program installed here alone.

Flower sends an app with each run, and its own executor runs what was sent. This one never does: it compares what was
sent with what is installed, file by file, refuses anything else, and calls the installed client app. A task is worked
on in a process forked from one that has imported everything once, and ends with it.
"""

import hashlib
import io
import multiprocessing
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import httpx
import medmnist  # noqa: F401  (the app imports it late, with much below it: here once, not in every task)
from flwr.app import Context, Message
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from apps.cli.launcher import assemble_app
from apps.deploy.layout import SECRET, Hospital, read_settings
from apps.flower.command import LOOPBACK
from apps.flower.programs import STEP_SECONDS, secret_path
from braincl_med.foundation.errors import BrainclError, ConfigError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.foundation.processes import end_with_parent
from braincl_med.messages.report import Report
from client.app import app, reply_with

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
MOST_BYTES = 64 << 20
"""An app larger than this when unpacked is not looked into; Flower packs 10 MB at most."""
OWN_NOTES = ".info/"
FORKING = multiprocessing.get_context("fork")


def digest_of(bundle: bytes) -> str:
    """The digest of an app: of its files' names and contents, however they are packed.

    Raises:
        ConfigError: it is no bundle of files, or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.startswith(OWN_NOTES)]
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise ConfigError("the app that came with the run is larger than any of this program's")
            files = [(entry.filename, hashlib.sha256(archive.read(entry)).hexdigest()) for entry in entries]
    # zipfile's own, of compressions that it does not know, and of files under a password.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ConfigError(f"the app that came with the run cannot be read ({type(error).__name__})") from None
    return sha256_of(canonical_json(sorted(files)))


def installed_digest() -> str:
    """The digest of the app that a server with this very program sends."""
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch:
        return digest_of(build_fab_from_disk(assemble_app(Path(scratch) / "app")))


def answer_of(message: Message, context: Context, sent: bytes, pinned: str, hospital: str) -> Message:
    """The installed app's reply, or the hospital's refusal where another app was sent."""
    try:
        seen = digest_of(sent)
        if seen != pinned:
            raise ConfigError(
                f"the run came with another app ({seen[:12]}) than is installed at this hospital ({pinned[:12]}): "
                "install the same version of this program at the server and at every hospital"
            )
    except BrainclError as error:
        print(f"refused: {error}", flush=True)
        return reply_with(Report(hospital, failure=str(error)), message)
    return app(message=message, context=context)


def work(address: str, token: str, pinned: str, hospital: str) -> None:
    """Work on the task that the SuperNode gave `token` for.

    Where that fails nothing is said: the SuperNode waits for an answer, and gives one of its own in the hospital's
    place when the signs of life have stopped for long enough.
    """
    executor = multiprocessing.parent_process()
    assert executor is not None
    assert executor.pid is not None  # this is a forked process
    end_with_parent(executor.pid)
    try:
        with _connected(address, RuntimeTokenHttpInterceptor(token)) as client:
            alive = HeartbeatSender(make_task_heartbeat_fn_http(client))
            alive.start()
            message, context, _, bundle = pull_task_input(client)
            push_message(client, answer_of(message, context, bundle.content, pinned, hospital), context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
            alive.stop()
    except httpx.HTTPError as error:
        sys.exit(f"the SuperNode does not answer ({type(error).__name__})")


class Work:
    """A task that is worked on in a forked process."""

    def __init__(self, address: str, token: str, pinned: str, hospital: str) -> None:
        self.address, self.token = address, token
        self.process = FORKING.Process(target=work, args=(address, token, pinned, hospital))
        self.process.start()

    @property
    def done(self) -> bool:
        """Whether the answer was given."""
        return self.process.exitcode == 0

    def give_up(self) -> None:
        """End it, and tell the SuperNode, which would otherwise answer in its place a minute later.

        That answer would be sent instead of the next message's, which then lies at the SuperNode for ever. Where it
        has an answer already, from a process that had not quite ended, it knows the token no more, for which Flower's
        retries would end this very process.
        """
        self.process.kill()
        self.process.join()
        with _connected(self.address, RuntimeTokenHttpInterceptor(self.token), retried=False) as client:
            push_task_output(client, None, SubStatus.FAILED, "the hospital went on to its next message")


def serve(folder: Path) -> None:
    """Take and work on tasks until this process is ended.

    Raises:
        ConfigError: `folder` is no hospital's, or its secret cannot be read.
    """
    hospital = read_settings(folder)
    if not isinstance(hospital, Hospital):
        raise ConfigError(f"'{folder.name}' is the server's folder: name a hospital's")
    try:
        secret = secret_path(folder, SECRET).read_bytes()
    except OSError as error:
        raise ConfigError(f"{SECRET} cannot be read: {(error.strerror or '').lower()}") from None
    pinned = installed_digest()
    print(f"{hospital.name} answers with the app {pinned[:12]} alone", flush=True)
    address = f"{LOOPBACK}:{hospital.local_port}"
    signed = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE})
    former: Work | None = None
    with _connected(address, signed) as client:
        while True:
            task = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
            if task.HasField("task") and task.token:
                # A SuperNode works on one message at a time: when it has another, nobody waits for the former one,
                # which may itself wait for ever: for a message whose download the end of a SuperLink cut off.
                if former is not None:
                    former.give_up()
                former = Work(address, task.token, pinned, hospital.name)
            former = None if former is None or former.done else former
            time.sleep(STEP_SECONDS)


def _connected(address: str, interceptor: ProtobufClientInterceptor, *, retried: bool = True) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), interceptor],
        retry_invoker=make_simple_http_retry_invoker() if retried else None,
    )


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except BrainclError as error:
        sys.exit(f"braincl: {error}")
