"""`harness demo` under 1,000 connections, slow clients and image bombs: its memory, and how long a visitor waits.

.venv/bin/python benchmarks/demo_under_attack.py     about a minute; trains a small mnist_mlp first

All at once, for --seconds: idle connections, clients that send a byte a second, uploads of a megabyte that stop half
way, and images that are small files and have as many pixels as are allowed, or more. Meanwhile one visitor asks for an
answer to a drawing, with a new connection each time. Prints a table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from PIL import Image, ImageDraw

HARNESS = str(Path(sys.executable).parent / "harness")
SMALL = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "50", "--no-test"]


def drawing() -> bytes:
    """A digit 1, as drawn on the page."""
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line((140, 60, 140, 220), fill=0, width=20)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def bomb(side: int, mode: str = "RGB") -> bytes:
    """A picture of one colour that is a small file and a large image."""
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "png")
    return file.getvalue()


def false_size(side: int) -> bytes:
    """A small image whose header says that it is large."""
    content = bytearray(bomb(8))
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


class Attackers:
    """Threads that disturb the server until they are told to stop."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.until = threading.Event()
        self.counts: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], None], threads: int = 1) -> None:
        def repeat() -> None:
            while not self.until.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    work()
                self.counts[name] = self.counts.get(name, 0) + 1

        self._threads += [threading.Thread(target=repeat, daemon=True) for _ in range(threads)]
        for thread in self._threads[-threads:]:
            thread.start()

    def start_all(self, connections: int) -> None:
        self.start("idle", self.idle(connections))
        self.start("slow", self.slow, 50)
        self.start("half an upload", self.half, 20)
        for side in (1000, 2000, 4000, 8000):
            content = bomb(side)
            self.start(f"bomb of {side} x {side}, {len(content) / 1000:.0f} kB", self.upload(content), 2)
        self.start("bomb with alpha", self.upload(bomb(2000, "RGBA")), 2)
        self.start("false size", self.upload(false_size(60_000)), 2)

    def stop(self) -> None:
        self.until.set()
        for thread in self._threads:
            thread.join(30)

    def idle(self, count: int) -> Callable[[], None]:
        """Keeps as many connections open; opens each again that is closed."""
        held: list[socket.socket] = []

        def work() -> None:
            while len(held) < count:
                held.append(socket.create_connection(self.address, timeout=5))
                held[-1].setblocking(False)
            for connection in list(held):
                try:
                    closed = connection.recv(1) == b""
                except BlockingIOError:
                    continue
                except OSError:
                    closed = True
                if closed:
                    connection.close()
                    held.remove(connection)
            time.sleep(0.05)

        return work

    def slow(self) -> None:
        with socket.create_connection(self.address, timeout=5) as connection:
            for byte in b"POST /models/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n" + bytes(5000):
                if self.until.is_set():
                    return
                connection.send(bytes([byte]))
                time.sleep(1.0)

    def half(self) -> None:
        head = f"POST /models/0 HTTP/1.1\r\nHost: {self.address[0]}\r\nContent-Length: 1000000\r\n\r\n".encode()
        with socket.create_connection(self.address, timeout=5) as connection:
            connection.sendall(head + bytes(500_000))
            self.until.wait(2)

    def upload(self, content: bytes) -> Callable[[], None]:
        return lambda: ask(self.address, content) and None


def ask(address: tuple[str, int], content: bytes) -> dict[str, object]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", "/models/0", content)
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


@contextlib.contextmanager
def served(folder: Path, run_id: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    environment = {**os.environ, "HARNESS_HOME": str(folder)}
    command = [HARNESS, "demo", run_id, "--no-open", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        url = urlsplit(json.loads(server.stdout.readline())["url"])
        yield server, url.hostname or "", url.port or 0
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


def megabytes(pid: int, field: str) -> float:
    """Of a process: VmRSS now, or VmHWM at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(field)).split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-demo-") as scratch:
        folder = Path(scratch) / "mlruns"
        trained = subprocess.run(
            [HARNESS, "train", "mnist_mlp", *SMALL, "--json"],
            env={**os.environ, "HARNESS_HOME": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        with served(folder, json.loads(trained.stdout)["run_id"]) as (server, host, port):
            attackers = Attackers(host, port)
            wanted = ask((host, port), drawing())
            before, alone = megabytes(server.pid, "VmRSS"), times(host, port, wanted, 3.0)
            attackers.start_all(options.connections)
            time.sleep(1.0)
            during = times(host, port, wanted, options.seconds)
            attackers.stop()
            peak, threads = megabytes(server.pid, "VmHWM"), psutil.Process(server.pid).num_threads()
    print("| | alone | under attack |\n|---|---|---|")
    print(f"| answers to the visitor | {len(alone)} | {len(during)} |")
    print(f"| the median wait, s | {statistics.median(alone):.3f} | {statistics.median(during):.3f} |")
    print(f"| the longest wait, s | {max(alone):.3f} | {max(during):.3f} |")
    print(f"| memory, MB | {before:.0f} | at most {peak:.0f} |")
    print(f"\nthreads at the end: {threads}; attacks: {attackers.counts}")


def times(host: str, port: int, wanted: dict[str, object], seconds: float) -> list[float]:
    """How long each answer to the visitor takes; each has to be the same as without an attack."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        answer = ask((host, port), drawing())
        found.append(time.monotonic() - began)
        if answer != wanted:
            raise SystemExit(f"another answer: {answer}")
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()
