"""Ports, addresses and signals of local servers."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from studies.web import local_server as serving
from studies.web.local_server import choose_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port in use."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_browser_is_opened_only_where_there_is_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    announced: list[str] = []
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display, wanted in (("", True), (":0", False), (":0", True)):
        monkeypatch.setenv("DISPLAY", display)
        serving.show("http://tracking.example/", announced.append, wanted)
    assert opened == ["http://tracking.example/"]
    assert len(announced) == 3


def test_a_port_asked_for_and_taken_is_an_error(taken: int) -> None:
    with pytest.raises(ValueError, match=rf"^port {taken} of 127.0.0.1 cannot be used \(Address already in use\)"):
        choose_port("127.0.0.1", taken, 5000)


def test_the_default_port_is_replaced_if_taken(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    port = choose_port("127.0.0.1", None, taken)
    assert port != taken
    assert f"port {taken} is taken, using port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_an_error(port: int) -> None:
    with pytest.raises(ValueError, match=f"port must be between 1 and 65535, but got port={port}"):
        choose_port("127.0.0.1", port, 5000)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
@pytest.mark.parametrize("port", [None, 5000])
def test_a_foreign_host_is_an_error(host: str, port: int | None) -> None:
    with pytest.raises(ValueError, match=f"host must be an address of this machine, but got host={re.escape(host)}"):
        choose_port(host, port, 5000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_raises_and_the_second_does_not_disturb(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(serving.Interrupted) as caught, serving.signals_raise():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
    assert caught.value.signum == number
    assert signal.getsignal(number) is before


def test_concurrent_starts_get_different_ports() -> None:
    """Neither server listens yet, since both are still importing; the second must not mistake the first for its own."""
    script = (
        "import sys; from studies.web.local_server import choose_port; "
        "print(choose_port('127.0.0.1', None, 5000), flush=True)"
    )
    commands = [[sys.executable, "-c", f"{script}; sys.stdin.read()"]] * 2
    both = [subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in commands]
    ports = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        process.communicate("")
    assert len(set(ports)) == 2 and all(int(port) for port in ports)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("localhost", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("no such host", False),
    ],
)
def test_a_host_that_opens_the_server_to_the_network_is_warned_about(
    host: str, is_open: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.warn_if_open(host, "ask")
    said = capsys.readouterr().err
    assert ("anyone who reaches this machine over the network can ask" in said) == is_open
