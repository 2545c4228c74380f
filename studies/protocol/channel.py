"""The trial's line to its driver: says events, asks for verdicts, hears "stop". Standard library only.

Events go to the log first and only then is the driver poked over the connection, so nothing depends on the
connection but wake-ups, verdicts and stop requests. Without a connection (a trial run by hand) every verdict
is "go" and nobody can ask it to stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from studies.protocol.event_log import EventWriter
from studies.protocol.events import Event

POKE = b"events"  # trial -> driver: there is something new in the log
ASK = b"verdict?"  # trial -> driver: the same, and the trial waits for an answer
EXIT = b"exit:"  # trial -> driver: it has ended, with the status that follows, in a process that lives on
NEXT = b"next:"  # driver -> process whose trial has ended: run another one; the path of its spec follows
GO = b"go"  # driver -> trial: go on
STOP = b"stop:"  # driver -> trial: stop at the next step; the reason follows

DRIVER_FD = "HARNESS_DRIVER_FD"  # an inherited connection to the driver, for trials started as scripts
LISTENER = "driver-channel"  # name of the thread that hears the driver
ORPHANED = 3  # exit status of a trial whose driver is gone
GRACE = 5.0  # seconds after a trial's end in which threads and processes that it started may end by themselves


def end_at_once() -> None:
    """Ends this process, and its whole group if it leads one: DataLoader workers and all that the trial started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)


def end_in_time() -> None:
    """Lets this process, which has nothing more to do, end as any other, but not wait for ever for what it started."""
    timer = threading.Timer(GRACE, end_at_once)
    timer.daemon = True
    timer.start()


class Channel:
    """One trial's end of the line.

    Args:
        log: where events are appended; None on all ranks of a DDP trial but the first, which says nothing.
        connection: to the driver, or None when there is none.
        orphaned: what to do when the driver is gone. A trial must not outlive it: nobody would hear its
            events, and the next driver starts it again from its newest checkpoint.
    """

    def __init__(
        self,
        log: EventWriter | None,
        connection: Connection | None = None,
        orphaned: Callable[[], None] = end_at_once,
    ) -> None:
        self._orphaned = orphaned
        self.stop_reason: str | None = None
        self.ending: Event | None = None  # the last that was said durably
        self._left = False
        self._next: str | None = None
        self._log = log
        self._connection = connection
        self._answered = threading.Event()
        if connection is not None:
            self._listener = threading.Thread(target=self._listen, daemon=True, name=LISTENER)
            self._listener.start()

    def emit(self, event: Event, *, durable: bool = False) -> None:
        """Appends an event and lets the driver know."""
        if self._log is None:
            return
        self._log.append(event, durable=durable)
        if durable:
            self.ending = event
        self._send(POKE)

    def ask(self, event: Event) -> str | None:
        """Appends an event and waits for the driver's verdict: None to go on, else the reason to stop."""
        if self._log is None:
            return None
        self._log.append(event)
        if self._connection is not None and self.stop_reason is None:
            self._answered.clear()
            self._send(ASK)
            self._answered.wait()
        return self.stop_reason

    def leave(self, status: int) -> None:
        """Closes the log and tells the driver that this trial has ended, where its process has others to run."""
        self._left = True
        if self._log is not None:
            self._log.close()
        self._send(EXIT + str(status).encode())

    def next(self) -> str | None:
        """Waits, after `leave`, for this process's next trial: the path of its spec, or None if there is none."""
        self._listener.join()
        return self._next

    def _send(self, message: bytes) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # the driver is going: the listening thread ends this process
                self._connection.send_bytes(message)

    def _listen(self) -> None:
        assert self._connection is not None
        while True:
            try:
                message = self._connection.recv_bytes()
            except (EOFError, OSError):
                if not self._left:
                    self._orphaned()  # the driver died, even by kill -9
                return
            if message.startswith(NEXT):
                self._next = message[len(NEXT) :].decode()
                return  # what follows is for the next trial's own channel
            if message.startswith(STOP):
                self.stop_reason = message[len(STOP) :].decode()
            self._answered.set()
