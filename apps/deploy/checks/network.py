"""Whether the server answers, as who it should be, and with the same time of day."""

import datetime
import email.utils
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

from apps.deploy.checks.finding import Finding

SECONDS = 10.0
FAST_SECONDS, SLOW_SECONDS = 5.0, 300.0
"""Flower refuses a node whose clock is ahead by more than the first, or behind by more than both together."""


@dataclass(frozen=True)
class Answer:
    """What a server said to one request, or why it said nothing."""

    date: str | None = None
    error: Exception | None = None


def ask(host: str, port: int, authority: Path) -> Answer:
    """One request over TLS that the federation's authority vouches for; the answer's status does not matter."""
    try:
        context = ssl.create_default_context(cafile=str(authority))
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        connection.request("GET", "/health")
        return Answer(date=connection.getresponse().getheader("Date"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(error=error)


def connection_finding(answer: Answer, address: str) -> Finding:
    """Whether the server could be reached."""
    what, error = "server", answer.error
    if error is None:
        return Finding(what, f"{address} answers over TLS")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Finding(
            what, f"{address} shows a certificate that does not verify ({error.verify_message})",
            "take ca.crt and the server's certificate from the same `deploy init`; see `certificate` at the server",
        )  # fmt: skip
    if isinstance(error, (ssl.SSLError, http.client.HTTPException)):
        return Finding(
            what, f"{address} does not speak TLS", "see that the port is the federation's, and no proxy between"
        )
    if isinstance(error, ConnectionRefusedError):
        return Finding(
            what, f"{address} is closed", "start the server (`braincl deploy up`), or correct host and port"
        )
    if isinstance(error, TimeoutError):
        return Finding(what, f"{address} does not answer", "let the firewalls pass TCP from here to that port")
    return Finding(
        what, f"{address} cannot be reached ({error})", "correct host and port, or the name's entry in DNS"
    )


def clock_finding(answer: Answer, here: datetime.datetime) -> Finding | None:
    """How far this machine's clock is from the server's, by the date of its answer; None where it gave none."""
    if answer.date is None:
        return None
    ahead = (here - email.utils.parsedate_to_datetime(answer.date)).total_seconds()
    if -SLOW_SECONDS < ahead < FAST_SECONDS:
        return Finding("clock", "agrees with the server's")
    direction = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "clock", f"is {abs(ahead):.0f} s {direction} the server's; Flower then refuses this node and says nothing",
        "set the clock: `timedatectl set-ntp true`",
    )  # fmt: skip
