"""Whom the dashboard's server answers: pages that it served itself, under this machine's names."""

import http.client
from urllib.parse import urlsplit


def asked_as(address: str, host: str, origin: str | None = None) -> int:
    """The status with which the page's WebSocket answers a browser that was led here under this name, by a page of
    `origin`, or by the dashboard's own.
    """
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    headers = {
        "Host": host,
        "Origin": origin or f"http://{host}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_a_browser_that_asks_for_this_machine_is_answered(address: str) -> None:
    port = urlsplit(address).port
    assert asked_as(address, f"127.0.0.1:{port}") == 101
    assert asked_as(address, f"localhost:{port}") == 101
    assert asked_as(address, f"rebound.example:{port}") == 403


def test_a_page_of_somebody_else_is_not_answered(address: str) -> None:
    port = urlsplit(address).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        for origin in (
            "http://evil.example",
            f"http://evil.example:{port}",
            f"https://127.0.0.1.evil.example:{port}",
        ):
            assert asked_as(address, host, origin) == 403
