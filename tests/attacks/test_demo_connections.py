"""The demo's server with a thousand idle connections, with clients that send a byte now and then, and with uploads."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from studies.web import connections
from studies.web.demo_server import LARGEST, DemoServer


class Panel:
    """A model that answers at once, or waits."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def describe(self) -> dict[str, Any]:
        return {"kind": "word"}

    def ask(self, content: bytes) -> dict[str, Any]:
        if content == b"slow":
            self.goes_on.wait(20)
        return {"answer": content.decode()}


@pytest.fixture
def server() -> Iterator[DemoServer]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with DemoServer("127.0.0.1", 0) as server:
        server.panels = [Panel()]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.panels[0].goes_on.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(server: DemoServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20)


def ask(server: DemoServer, word: bytes = b"turkey") -> Any:
    client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    client.request("POST", "/models/0", word)
    response = client.getresponse()
    content = response.read()
    client.close()
    return response.status, json.loads(content)


def is_ended(connection: socket.socket, seconds: float = 10.0) -> bool:
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionError):
        return connection.recv(1000) == b""
    return True


def test_an_honest_visitor_is_answered_beside_a_thousand_idle_connections(server: DemoServer) -> None:
    idle = [connect(server) for _ in range(1000)]
    assert ask(server) == (200, {"answer": "turkey"})
    assert threading.active_count() < 4 * connections.MOST, "few are kept"
    process = psutil.Process()
    process.cpu_percent()
    time.sleep(1.0)
    assert process.cpu_percent() < 90, "nothing spins"
    assert is_ended(idle[0]) and ask(server)[0] == 200
    for connection in idle:
        connection.close()


def test_a_request_that_comes_byte_by_byte_is_ended(server: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.5)
    for beginning in (b"", b"GET / HTT", b"POST /models/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"):
        connection = connect(server)
        connection.sendall(beginning)
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    assert connection.recv(1000) == b""
                    break
                connection.setblocking(True)
            else:
                pytest.fail("it is still served after five seconds")
        connection.close()
    assert ask(server)[0] == 200


def test_an_answer_that_takes_long_is_not_ended(server: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.3)
    answers: list[Any] = []
    visitor = threading.Thread(target=lambda: answers.append(ask(server, b"slow")))
    visitor.start()
    time.sleep(1.0)
    server.panels[0].goes_on.set()  # type: ignore[attr-defined]
    visitor.join()
    assert answers == [(200, {"answer": "slow"})]


def test_no_visitor_waits_for_anothers_upload(server: DemoServer) -> None:
    uploads = [connect(server) for _ in range(20)]
    for upload in uploads:
        upload.sendall(f"POST /models/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGEST}\r\n\r\n".encode())
    assert ask(server) == (200, {"answer": "turkey"})
    for upload in uploads:
        upload.close()


def test_several_requests_of_one_connection(server: DemoServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    for number in range(5):
        client.request("POST", "/models/0", str(number))
        assert json.loads(client.getresponse().read()) == {"answer": str(number)}
    client.close()
