"""Truncated, emptied, bit-flipped or replaced state files: no traceback, and no loss of intact data."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process_helpers import TOY, forget_open_databases

from studies.cli.main import main
from studies.search import Search

pytestmark = pytest.mark.slow
STUDY = ["study", TOY, "--trials", "3", "--no-test", "--json"]


def empty(data: bytes) -> bytes:
    return b""


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def flip(data: bytes) -> bytes:
    chance, flipped = random.Random(0), bytearray(data)
    for _ in range(max(3, len(data) // 500)):
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def replace(data: bytes) -> bytes:
    return b"\x00\xff{[not what was here\n" * 20


FILES = [
    *("mlflow.db", "optuna.db", "mlflow.lock", "studies/toy.lease"),
    *(f"trials/1/{name}" for name in ("events.jsonl", "spec.json", "artifacts/log.txt")),
    *(f"trials/1/checkpoints/{name}" for name in ("best.ckpt", "last.ckpt", "previous.ckpt")),
    *("trials/1/artifacts/config.yaml", "trials/1/artifacts/checkpoints/best.ckpt"),
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    def run(*argv: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        status = main([*argv])
        captured = capsys.readouterr()
        return status, json.loads(captured.out.strip().splitlines()[-1]), captured.err

    return run


def located(home: Path, name: str, run_id: str) -> Path:
    if name.startswith("trials/1/"):
        return home / "trials" / run_id / name.removeprefix("trials/1/")
    return home / name


@pytest.mark.parametrize("damage", [empty, cut, flip, replace], ids=lambda damage: damage.__name__)
def test_a_damaged_file_gives_no_traceback_and_intact_data_are_kept(
    home: Path, run: Any, damage: Callable[[bytes], bytes]
) -> None:
    """Each file in turn, restored in between: 12 files in 4 ways, in addition to tests/cli/test_main.py."""
    status, answer, err = run(*STUDY[:3], "2", *STUDY[4:])
    assert status == 0, err
    good = [(trial["number"], trial["state"], trial["value"]) for trial in answer["trials"]]
    kept = home.with_name("kept")
    shutil.copytree(home, kept)
    for name in FILES:
        run_id = answer["trials"][1]["run_id"]
        path = located(home, name, run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damage((path.exists() and path.read_bytes()) or b"something"))
        forget_open_databases()
        for command in (["doctor", "--fix"], STUDY, ["runs"]):
            status, _, err = run(*command, *([] if "--json" in command else ["--json"]))
            assert status in (0, 1, 2) and "Traceback" not in err, (name, command, err)
            if not name.endswith(".db") and command is STUDY:
                assert status == 0, (name, err)
        if name != "optuna.db":
            search = Search.existing(f"sqlite:///{home}/optuna.db", "toy")
            rows = [(row.number, row.state, row.value) for row in search.trials()]
            assert rows[:2] == good, name
        shutil.rmtree(home)
        shutil.copytree(kept, home)
        forget_open_databases()
