"""Passwords of servers work, and what a study leaves, prints and shows to other users does not contain them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from process_helpers import HARNESS, Server, eventually

pytestmark = pytest.mark.slow
USER, DATABASE, TRACKING, VARIABLE, FILE = (
    "planteduser",
    "plantedDB-1/x",
    "plantedHTTP-2",
    "plantedENV-3",
    "plantedFILE-4",
)
PLANTED = (USER, "plantedDB-1", TRACKING, VARIABLE, FILE)
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("none"))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A PostgreSQL server that asks for a password; its port."""
    if not BINARIES.exists():
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    folder, port = Path("/tmp") / f"harness-postgres-{os.getpid()}", free_port()
    folder.mkdir(mode=0o700)
    (folder / "password").write_text(DATABASE)
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    make = [
        BINARIES / "initdb",
        "-D",
        folder / "data",
        "-U",
        USER,
        "--auth=scram-sha-256",
        "--pwfile",
        folder / "password",
    ]
    subprocess.run([*as_user, *make], check=True, capture_output=True, cwd="/")
    serve = [*as_user, BINARIES / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        ready = [BINARIES / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        assert eventually(lambda: subprocess.run(ready, capture_output=True).returncode == 0, 30)
        yield port
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True)[:1], server]:
            process.terminate()  # runuser does not pass the signal on
        server.wait(30)
        shutil.rmtree(folder)


class Guarded(http.server.BaseHTTPRequestHandler):
    """Passes requests on to an MLflow server, of the right user only."""

    behind = 0
    expected = f"Basic {base64.b64encode(f'{USER}:{TRACKING}'.encode()).decode()}"

    def answer(self) -> None:
        if self.headers.get("Authorization") != self.expected:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.behind)
        headers = {name: value for name, value in self.headers.items() if name not in ("Authorization", "Host")}
        connection.request(self.command, self.path, body, headers)
        with contextlib.closing(connection.getresponse()) as found:
            content = found.read()
            self.send_response(found.status)
            self.send_header("Content-Type", found.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """An MLflow server behind a proxy that asks for a password; the proxy's port and the server's folder."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, free_port())
    server.start()
    handler = type("Handler", (Guarded,), {"behind": server.port})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_address[1], folder
        proxy.shutdown()
    server.stop()


@pytest.fixture
def project(toy: Path) -> Path:
    """A git repository with secrets in tracked, ignored and untracked files."""

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, cwd=toy.parent)

    git("init", "-q")
    (toy.parent / ".env").write_text("old\n")
    (toy.parent / "urls.py").write_text("\n")
    (toy.parent / ".gitignore").write_text("private\n")
    git("add", "--all")
    git("commit", "-qm", "first")
    (toy.parent / ".env").write_text(f"{FILE}\n")
    (toy.parent / "private").write_text(FILE)
    (toy.parent / "new").write_text(FILE)
    (toy.parent / "urls.py").write_text(f'URL = "postgresql://{USER}:{FILE}@host/db"\n')
    return toy


def run(
    project: Path, *arguments: str, password: str = TRACKING, port: int, seen: set[str] | None = None
) -> tuple[int, str]:
    """Exit status and everything printed; gathers the command lines of all processes meanwhile."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"http://{USER}:{password}@127.0.0.1:{port}"}
    environment |= {"HARNESS_HOME": str(project.parent / "mlruns"), "SERVICE_TOKEN": VARIABLE}
    output = project.parent.parent / f"{time.monotonic_ns()}.out"
    with open(output, "wb") as file:
        command = subprocess.Popen(
            [HARNESS, *arguments], cwd=project.parent, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    time.sleep(0.5)  # until it has replaced its arguments
    while command.poll() is None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if seen is not None:
                    seen.add(" ".join(process.cmdline()))
        time.sleep(0.1)
    return command.returncode, output.read_text(errors="replace")


def found_in(folder: Path) -> list[str]:
    """Files that contain what was planted."""
    words = [word.encode() for word in PLANTED]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f"{path}: {word!r}" for path in files for word in words if word in path.read_bytes()]


def test_a_planted_password_is_nowhere(
    project: Path, postgres: int, tracking: tuple[int, Path], tmp_path: Path
) -> None:
    port, served = tracking
    seen: set[str] = set()
    storage = f"postgresql+psycopg://{USER}:{DATABASE.replace('/', '%2F')}@127.0.0.1:{postgres}/postgres"
    study = ["study", str(project), "--trials", "4", "--workers", "2", "--storage", storage]
    home = project.parent / "mlruns"
    said = ""
    for arguments in (
        [*study, "--study-name", "s"],
        ["doctor", "--storage", storage],
        ["runs"],
        ["train", str(project)],
    ):
        status, output = run(project, *arguments, port=port, seen=seen)
        assert status == 0, output
        said += output
    assert (len(list(home.glob("trials/*"))) == 5 and "4 complete" in said.lower()) or "4" in said
    assert any("--storage postgresql+psycopg://***@127.0.0.1" in line for line in seen), "arguments were looked at"

    dump = subprocess.run(
        [BINARIES / "pg_dump", "-h", "127.0.0.1", "-p", str(postgres), "-U", USER, "postgres"],
        env={**os.environ, "PGPASSWORD": DATABASE},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "learning_rate" in dump and "learning_rate" in (served / "server.db").read_bytes().decode("latin-1")
    patches = list(home.glob("trials/*/artifacts/provenance/**/diff.patch"))
    assert patches and all(b"# left out: .env" in path.read_bytes() for path in patches)
    assert not found_in(home)
    # MLflow itself names the user of its server as the author of a model (tag mlflow.user).
    assert not [line for line in found_in(served) if not line.endswith(f"server.db: {USER.encode()!r}")]
    dump = dump.replace(f"Owner: {USER}", "").replace(f"OWNER TO {USER}", "")  # PostgreSQL's own
    assert not [word for word in PLANTED if word in dump]
    assert not [word for word in PLANTED if word in said], said
    others = ("postgres: ", str(BINARIES), "runuser")  # the server's own
    assert not [line for line in seen if not line.startswith(others) for word in PLANTED if word in line]


@pytest.mark.parametrize(
    "storage", ["postgresql+psycopg://{}:{}@127.0.0.1:{}/postgres", "nosuch://{}:{}@127.0.0.1:{}/x"]
)
def test_a_wrong_password_is_one_line_without_it(
    storage: str, project: Path, postgres: int, tracking: tuple[int, Path]
) -> None:
    url = storage.format(USER, "plantedDB-1", postgres)
    study = ["study", str(project), "--trials", "1", "--storage", url]
    for arguments, password in ((study, TRACKING), (["runs"], "plantedWRONG")):
        status, output = run(project, *arguments, port=tracking[0], password=password)
        assert status == 2 and "Traceback" not in output, output
        assert not [word for word in (*PLANTED, "plantedWRONG") if word in output], output
        assert len(output.strip().splitlines()) == 1, output
    assert not (project.parent / "mlruns" / "trials").exists(), "nothing is half-created"


def test_an_unexpected_error_hides_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import studies.cli.inspecting as page\n"
        "def fail(*arguments):\n    raise RuntimeError('http://me:plantedFILE-4@host')\n"
        "page.list_experiments = fail\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([HARNESS, "list"], env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "RuntimeError: http://***@host" in result.stderr
    assert FILE not in result.stdout + result.stderr
