"""Whether the SuperLink answers, and which hospitals' SuperNodes it has had a sign of life of."""

import time
from pathlib import Path

import httpx
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.supercore.control import ControlHttpClient

from apps.deploy.layout import CA, Server
from apps.flower.programs import link_address
from braincl_med.foundation.files import reading_error

LOOK_SECONDS = 30.0
"""As often as SuperNodes give signs of life; after two that are missing the SuperLink takes one for away."""


class Watch:
    """Looks at a server's SuperLink from time to time, and tells what has changed since the last look."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.looked, self.silent = time.monotonic(), False
        self.there: dict[str, bool] = {}

    def changes(self) -> list[str]:
        """One sentence for each hospital that came or went away, and where the SuperLink began or ceased to answer.

        Raises:
            VaultError: the certificate of the authority cannot be read.
        """
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return []
        self.looked = time.monotonic()
        try:
            now = self._nodes()
        except httpx.HTTPError as error:
            first, self.silent = not self.silent, True
            told = f"the SuperLink does not answer ({type(error).__name__}): see superlink.log in the logs"
            return [told] if first else []
        changed = ["the SuperLink answers again"] if self.silent else []
        for name, online in sorted(now.items()):
            if online != self.there.get(name, False):
                changed.append(f"{name} is {'there' if online else 'away: no sign of life for a minute'}")
        self.there, self.silent = now, False
        return changed

    def _nodes(self) -> dict[str, bool]:
        """Of every registered hospital, whether it is online."""
        host, port = link_address(self.server)
        try:
            authority = (self.folder / CA).read_bytes()
        except OSError as error:
            raise reading_error(self.folder / CA, error) from error
        with ControlHttpClient.from_server_address(f"{host}:{port}", False, authority, interceptors=[]) as link:
            nodes = link.ListNodes(ListNodesRequest()).nodes_info
        return {node.name: node.status == "online" for node in nodes if node.name and node.status != "unregistered"}
