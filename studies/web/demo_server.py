"""HTTP server for the page of `harness demo`, for browsers on this machine.

    GET /             the page; /demo.css and /demo.js belong to it
    GET /models       the models, in the order of the panels, and the kinds of input that have none
    POST /models/N    a drawing as PNG, or a word; responds like `harness predict`

All but the page is JSON. An input that a model cannot read gets status 200 and `error`: the request was valid.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from studies.web.connections import Connections
from studies.web.local_server import bound

PAGE = {
    "/": ("demo.html", "text/html"),
    "/demo.css": ("demo.css", "text/css"),
    "/demo.js": ("demo.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
LARGEST = 1_000_000  # bytes of a request; a drawing has about 5000


class Panel(Protocol):
    """A model on the page."""

    def describe(self) -> dict[str, Any]: ...

    def ask(self, content: bytes) -> dict[str, Any]: ...


class DemoServer(ThreadingHTTPServer):
    """Listens immediately; serves once `serve_forever` is called.

    Args:
        host: address to listen on.
        port: port; 0: any free one.
    """

    request_queue_size = 128  # the default of 5 rejects simultaneous connections

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound(host, port)
        self.server_address = self.socket.getsockname()[:2]
        self.server_activate()
        self.host, self.address = host, ipaddress.ip_address(str(self.server_address[0]))
        self.panels: list[Panel] = []
        self.missing: list[dict[str, str]] = []  # kinds without a panel; see studies.web.demo.missing
        self.connections = Connections()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.opened(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.closed(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by serve_forever twice a second, and after each connection."""
        self.connections.end_the_slow()

    def knows(self, host: str | None) -> bool:
        """Whether a request's Host header is an address of this server.

        A foreign page may make its own host name resolve to this machine (DNS rebinding), and the browser would let
        it read our responses. IP addresses and "localhost" are safe from that.
        """
        try:
            name = urlsplit(f"//{host or ''}").hostname or ""
        except ValueError:
            return False
        if name in (self.host, "localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.address.is_unspecified or address == self.address

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a disconnecting browser is not an error
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One browser connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60.0  # seconds without a byte
    server: DemoServer

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.server.connections.answered(self.connection)

    def do_GET(self) -> None:
        self.server.connections.arrived(self.connection)
        path = self.path.partition("?")[0]
        if not self._may_ask():
            return
        if path in PAGE:
            name, kind = PAGE[path]
            self._send(200, f"{kind}; charset=utf-8", Path(__file__).with_name(name).read_bytes())
        elif path == "/models":
            models = [panel.describe() for panel in self.server.panels]
            self._send_json(200, {"models": models, "missing": self.server.missing})
        else:
            self.send_error(404, f"there is no {path}")

    def do_POST(self) -> None:
        if not self._may_ask():
            return
        match = re.fullmatch(r"/models/(\d{1,3})", self.path)
        length = self.headers.get("Content-Length", "")
        if match is None or int(match[1]) >= len(self.server.panels):
            self.send_error(404, f"there is no {self.path}")
        elif not re.fullmatch(r"\d{1,18}", length):
            self.send_error(411)
        elif int(length) > LARGEST:
            self.send_error(413, f"an input has at most {LARGEST} bytes, but this one has {length}")
        else:
            content = self.rfile.read(int(length))
            self.server.connections.arrived(self.connection)
            if len(content) == int(length):
                self._send_json(200, self.server.panels[int(match[1])].ask(content))
            else:
                self.close_connection = True  # the visitor has gone, or was too slow

    def _may_ask(self) -> bool:
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if not self.server.knows(host):
            self.send_error(403, f"this server is {self.server.host}, not {host}")
        elif origin is not None and origin != f"http://{host}":
            self.send_error(403, f"requests from pages of {origin} are not allowed")
        else:
            return True
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends an error as JSON, including http.server's own; the unread rest of the request is discarded."""
        self.close_connection = True
        self._send_json(code, {"error": message or HTTPStatus(code).phrase})

    def _send_json(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        connection = {"Connection": "close"} if self.close_connection else {}
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **HEADERS, **connection}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """No-op: a drawing causes a hundred requests."""
