"""`--notify`: what is posted, and that neither a bad server nor a secret address harms anything."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import HARNESS, TOY, Workspace

from studies.cli import notifying as module
from studies.cli.bad_input import BadInput
from studies.cli.main import main
from studies.cli.notifying import notifying
from studies.driver.session import Result

SECRET = "plantedHOOK-7f3a"
STUDIED = {
    "study": "s",
    "trials": [{"state": "COMPLETE"}, {"state": "COMPLETE"}, {"state": "FAIL"}],
    "best": {"number": 1, "value": 0.25, "params": {}, "run_id": "a"},
    "test": {"test/loss": 0.3},
    "metric": "val/loss",
    "direction": "minimize",
}


class Receiver:
    """A server on this machine that keeps what is posted to it.

    Attributes:
        posts: (path, Authorization, JSON object) of each.
        answer: status of the next answers; a redirect leads to /elsewhere.
        waits: answers only once this is set.
    """

    def __init__(self) -> None:
        self.posts: list[tuple[str, str | None, dict[str, Any]]] = []
        self.answer, self.waits = 200, threading.Event()
        self.waits.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.posts.append((self.path, self.headers["Authorization"], body))
                receiver.waits.wait(60)
                self.send_response(receiver.answer)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.waits.set()
    receiver.server.shutdown()
    receiver.server.server_close()


def test_a_study_says_how_it_ended_without_its_trials(receiver: Receiver) -> None:
    with notifying(f"http://{receiver.address}/{SECRET}?a=b#c", "study", "s") as tell:
        tell(Result("finished", 3.0, None, STUDIED))
        assert receiver.posts == [], "only at the end"
    ((path, authorization, body),) = receiver.posts
    assert path == f"/{SECRET}?a=b" and authorization is None
    assert body["command"] == "study" and body["status"] == "finished" and body["error"] is None
    assert body["best"] == STUDIED["best"] and body["test"] == STUDIED["test"]
    assert body["trials"] == {"complete": 2, "fail": 1}
    assert body["text"] == "study s finished in 0s: best val/loss 0.2500 (trial 1), 2 complete, 1 fail"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("it broke"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_is_posted_and_raised(receiver: Receiver, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), notifying(f"http://{receiver.address}", "train", "toy"):
        raise error
    ((_, _, body),) = receiver.posts
    assert body["status"] == status and body["text"].startswith(f"train toy {status} in 0s: ")
    assert str(error) in body["error"]


def test_nothing_is_posted_unless_asked_for() -> None:
    with notifying(None, "train", "toy") as tell:
        tell(Result("finished"))


def test_a_user_and_password_are_sent_as_such(receiver: Receiver) -> None:
    with notifying(f"http://me:se%40cret@{receiver.address}/x", "train", "toy"):
        pass
    assert receiver.posts[0][1] == "Basic " + base64.b64encode(b"me:se@cret").decode()


def test_a_redirect_is_not_followed(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    receiver.answer = 302
    with notifying(f"http://{receiver.address}/{SECRET}", "train", "toy"):
        pass
    assert [path for path, _, _ in receiver.posts] == [f"/{SECRET}"]
    err = capsys.readouterr().err
    assert (
        err.startswith("harness: the notification could not be sent to 127.0.0.1: HTTP Error 302") and SECRET not in err
    )


def test_a_server_that_does_not_answer_delays_nothing_for_long(
    receiver: Receiver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.waits.clear()
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with notifying(f"http://{receiver.address}/{SECRET}", "train", "toy"):
        pass
    assert "could not be sent to 127.0.0.1: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/x", "file:///etc/passwd", "host/x", "http://", "http:///x", "https://host:port/", ""),
        *("http://host/a b", "http://host/\r\nEvil: 1", "http://h\u00f6st/", "javascript:alert(1)"),
    ],
)
def test_another_address_is_refused_before_the_work_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match="notify must be a URL") as raised, notifying(url, "train", "toy"):
        raise AssertionError("not reached")
    assert len(url) < 8 or url not in str(raised.value)


def test_a_bad_address_on_the_command_line_creates_nothing(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(toy), "--notify", f"ftp://host/{SECRET}"]) == 2
    assert SECRET not in capsys.readouterr().err and not empty_home.exists()


@pytest.mark.slow
def test_a_server_that_is_gone_changes_neither_result_nor_exit_status_and_the_address_stays_secret(
    tmp_path: Path, receiver: Receiver
) -> None:
    workspace = Workspace(tmp_path)
    train = [HARNESS, "train", TOY, "--executor", "inline", "--json", "--notify"]
    url = f"http://{receiver.address}/{SECRET}"
    ended = subprocess.run([*train, url], cwd=tmp_path, env=workspace.environment, capture_output=True, text=True)
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert ended.returncode == 0 and answer["status"] == "finished", ended.stderr
    ((_, _, body),) = receiver.posts
    assert body["run_id"] == answer["run_id"] and body["metrics"] == answer["metrics"]
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in left and SECRET not in ended.stdout + ended.stderr
    assert b"--json --notify ***" in left, "command.txt"

    gone = "http://127.0.0.1:9/" + SECRET
    ended = subprocess.run([*train, gone], cwd=tmp_path, env=workspace.environment, capture_output=True, text=True)
    assert ended.returncode == 0 and json.loads(ended.stdout.splitlines()[-1])["status"] == "finished"
    assert "could not be sent to 127.0.0.1: " in ended.stderr and SECRET not in ended.stderr
