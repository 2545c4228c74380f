"""The trial's channel to its driver: emits events, asks for verdicts, receives stop requests. Standard library only.

Events are first written to the log; then the driver is notified over the connection, which carries only notifications,
verdicts and stop requests. Without a connection (a trial run by hand) every verdict is to continue.
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

POKE = b"events"  # trial -> driver: new events in the log
ASK = b"verdict?"  # trial -> driver: new events, and the trial blocks until the verdict
EXIT = b"exit:"  # trial -> driver: the trial has ended but its process lives on; the exit status follows
NEXT = b"next:"  # driver -> idle process: run another trial; the path of its spec follows
GO = b"go"  # driver -> trial: continue
STOP = b"stop:"  # driver -> trial: stop at the next step; the reason follows

DRIVER_FD = "HARNESS_DRIVER_FD"  # an inherited connection to the driver, for trials started as scripts
LISTENER = "driver-channel"  # name of the thread that receives the driver's messages
ORPHANED = 3  # exit status of a trial whose driver is gone
GRACE = 5.0  # seconds that a trial's threads and child processes have to exit after its end


def end_at_once() -> None:
    """Kills this process and, if it leads one, its process group: DataLoader workers and other children."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)


def end_in_time() -> None:
    """Lets this process exit normally, but kills it if its threads or children do not end in time."""
    timer = threading.Timer(GRACE, end_at_once)
    timer.daemon = True
    timer.start()


class Channel:
    """A trial's end of the channel.

    Args:
        log: where events are appended; None on all ranks but the first of a DDP trial, which emit nothing.
        connection: to the driver, or None.
        orphaned: called when the driver is gone. A trial must not outlive it, since the next driver restarts the trial
            from its newest checkpoint.
    """

    def __init__(
        self,
        log: EventWriter | None,
        connection: Connection | None = None,
        orphaned: Callable[[], None] = end_at_once,
    ) -> None:
        self._orphaned = orphaned
        self.stop_reason: str | None = None
        self.ending: Event | None = None  # the last durable event
        self._left = False
        self._next: str | None = None
        self._log = log
        self._connection = connection
        self._answered = threading.Event()
        if connection is not None:
            self._listener = threading.Thread(target=self._listen, daemon=True, name=LISTENER)
            self._listener.start()

    def emit(self, event: Event, *, durable: bool = False) -> None:
        """Appends an event and notifies the driver."""
        if self._log is None:
            return
        self._log.append(event, durable=durable)
        if durable:
            self.ending = event
        self._send(POKE)

    def ask(self, event: Event) -> str | None:
        """Appends an event and waits for the driver's verdict: None to continue, else the reason to stop."""
        if self._log is None:
            return None
        self._log.append(event)
        if self._connection is not None and self.stop_reason is None:
            self._answered.clear()
            self._send(ASK)
            self._answered.wait()
        return self.stop_reason

    def leave(self, status: int) -> None:
        """Closes the log and tells the driver that this trial has ended and its process can run another."""
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
            with contextlib.suppress(OSError):  # the driver is gone: the listening thread ends this process
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
                return  # later messages are for the next trial's channel
            if message.startswith(STOP):
                self.stop_reason = message[len(STOP) :].decode()
            self._answered.set()
