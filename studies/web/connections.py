"""Keeps the connections of a server few and short, so that idle and slow clients do not keep others out."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

MOST = 64  # connections at once; a browser has up to six
SECONDS = 15.0  # for a request to arrive in full, from the connection or the last answer on


class Connections:
    """The open connections of a server, the one that has waited longest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, float] = {}  # since when a request has been awaited, in that order
        self._answering: set[socket.socket] = set()

    def opened(self, connection: socket.socket) -> None:
        """Takes a connection in; where there are too many, the one that has waited longest is closed."""
        with self._lock:
            self._waiting[connection] = time.monotonic()
            while len(self._waiting) + len(self._answering) > MOST and len(self._waiting) > 1:
                self._end(next(iter(self._waiting)))

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._waiting.pop(connection, None)
            self._answering.discard(connection)

    def arrived(self, connection: socket.socket) -> None:
        """A request is there in full: its answer may take as long as it takes."""
        with self._lock:
            if self._waiting.pop(connection, None) is not None:
                self._answering.add(connection)

    def answered(self, connection: socket.socket) -> None:
        """The next request may come."""
        with self._lock:
            if connection in self._answering:
                self._answering.discard(connection)
                self._waiting[connection] = time.monotonic()

    def end_the_slow(self) -> None:
        """Closes connections whose request has not arrived in time, even if a byte comes now and then."""
        with self._lock:
            for connection, since in list(self._waiting.items()):
                if time.monotonic() - since > SECONDS:
                    self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        self._waiting.pop(connection, None)
        with contextlib.suppress(OSError):  # it has gone by itself
            connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
