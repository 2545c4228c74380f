"""The page over HTTP, with fake models."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from studies.web import demo_server
from studies.web.demo_server import DemoServer


class Echo:
    def describe(self) -> dict[str, Any]:
        return {"kind": "word", "title": "an echo"}

    def ask(self, content: bytes) -> dict[str, Any]:
        return {"answer": content.decode()}


@pytest.fixture
def server() -> Iterator[DemoServer]:
    with DemoServer("127.0.0.1", 0) as server:
        server.panels = [Echo()]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server: DemoServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


@pytest.mark.parametrize("path", ["/", "/demo.css", "/demo.js", "/?from=somewhere"])
def test_the_page_is_self_contained(server: DemoServer, path: str) -> None:
    status, content, headers = request(server, "GET", path)
    assert status == 200 and content
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert b"http://" not in content and b"https://" not in content


def test_models_are_described_and_queried(server: DemoServer) -> None:
    assert json.loads(request(server, "GET", "/models")[1]) == {
        "models": [{"kind": "word", "title": "an echo"}],
        "missing": [],
    }
    status, content, headers = request(server, "POST", "/models/0", b"yekrut")
    assert (status, json.loads(content)) == (200, {"answer": "yekrut"})
    assert headers["Content-Type"] == "application/json"


def test_many_concurrent_requests(server: DemoServer) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = json.loads(request(server, "POST", "/models/0", str(number).encode())[1])["answer"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number) for number in range(20)}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/demo.py", {}, 404),
        ("GET", "/../README.md", {}, 404),
        ("POST", "/models/1", {}, 404),
        ("POST", "/models", {}, 404),
        ("PUT", "/models/0", {}, 501),
        ("POST", "/models/0", {"Content_Length": "many"}, 411),
        ("GET", "/", {"Host": "elsewhere.example"}, 403),
        ("POST", "/models/0", {"Host": "elsewhere.example:8000"}, 403),
        ("POST", "/models/0", {"Host": "["}, 403),
        ("POST", "/models/0", {"Origin": "http://elsewhere.example"}, 403),
    ],
)
def test_missing_or_forbidden_requests_give_one_line(
    server: DemoServer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    found, content, _ = request(server, method, path, b"x" if method == "POST" else b"", **headers)
    assert found == status
    error = json.loads(content)["error"]
    assert error and "\n" not in error and "Traceback" not in error


def test_an_input_that_is_too_large_is_not_read(server: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "LARGEST", 10)
    status, content, _ = request(server, "POST", "/models/0", b"x" * 11)
    assert (status, json.loads(content)["error"]) == (413, "an input has at most 10 bytes, but this one has 11")
    assert request(server, "POST", "/models/0", b"x" * 10)[0] == 200


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("localhost", True),
        ("127.0.0.2:8000", False),
        ("my.own.name", False),
        ("", False),
        (None, False),
    ],
)
def test_only_local_host_names_are_accepted(server: DemoServer, host: str | None, known: bool) -> None:
    assert server.knows(host) is known
