"""Each file of the corpus: one line names it, the others go on, nothing is executed or written outside."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pytest
import tiny_models
from commands import run
from process_helpers import TOY, forget_open_databases

from studies.cli.main import main

LONGEST = 60  # seconds; a hostile file must not keep a command forever


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path: Path) -> Iterator[Path]:
    """No canary, no change in a folder beside ours, and no command that waits forever."""

    def stop(*arguments: object) -> None:
        raise AssertionError("the command did not end")

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\nsecret without an end")
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    yield outside
    signal.alarm(0)
    assert not corpus.CANARY.exists(), "it was executed"
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret\nsecret without an end"


def test_the_corpus_is_large() -> None:
    assert corpus.NUMBER >= 80


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line with which a command refuses bad input."""
    capsys.readouterr()
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("harness: ")]
    assert len(said) == 1 and "Traceback" not in captured.err + captured.out
    return said[0]


@pytest.mark.parametrize("name", corpus.EXPERIMENTS)
def test_an_experiment_file(
    name: str, toy: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = corpus.EXPERIMENTS[name]
    file = toy.with_name("hostile.yaml")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused(capsys, "train", str(file))
    assert "hostile" in line or "os" in line or "toy" in line or "model" in line, line
    assert len(line) < 1000, "the file itself is not repeated"
    assert not empty_home.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "&a [*a]", "!!python/object/apply:os.system [x]", "{"])
def test_an_override(text: str, toy: Path, empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "train", str(toy), "--model.learning_rate", text)
    assert "--model.learning_rate" in line and len(line) < 1000
    assert not empty_home.exists()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with two studies of one trial each, and a run."""
    folder = tmp_path_factory.mktemp("original") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_HOME", str(folder))
        patch.chdir(folder.parent)
        assert main(["train", TOY]) == 0
        for study in ("one", "two"):
            assert main(["study", TOY, "--trials", "1", "--no-test", "--study-name", study]) == 0
    return folder


class State:
    """A copy of the folder: the trial of study `one` is hostile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with sqlite3.connect(folder / "mlflow.db") as connection:
            found = connection.execute(
                "SELECT run_uuid FROM tags WHERE key = 'harness.study' AND value = 'one' AND run_uuid IN "
                "(SELECT run_uuid FROM tags WHERE key = 'harness.kind' AND value = 'trial')"
            )
            self.run_id: str = found.fetchone()[0]
        connection.close()

    @property
    def trial(self) -> Path:
        return self.folder / "trials" / self.run_id

    def sql(self, database: str, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.folder / database) as connection:
            connection.execute(statement, values)
        connection.close()
        forget_open_databases()


@pytest.fixture
def state(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    folder = tmp_path / "given"
    shutil.copytree(original, folder)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    made = State(folder)
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        made.sql("mlflow.db", f"UPDATE {table} SET {column} = replace({column}, ?, ?)", str(original), str(folder))
    return made


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The doctor's exit status, and what it says of each finding."""
    status, answer, err = run(capsys, "doctor", *arguments)
    assert status in (0, 1) and "Traceback" not in err, err
    found = [f"{item['kind']}: {item['where']}" for item in answer["findings"]]
    assert all("\n" not in line and len(line) < 1000 for line in found)
    return status, found


def is_named_and_mended(state: State, capsys: pytest.CaptureFixture[str], kind: str, name: str) -> None:
    status, found = examined(capsys)
    assert status == 1 and [line for line in found if line.startswith(f"{kind}: ") and name in line], found
    status, _ = examined(capsys, "--fix")
    assert (status, examined(capsys)) == (0, (0, []))


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.SPECIFICATIONS)
def test_a_specification(name: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    path = state.trial / "spec.json"
    path.write_bytes(corpus.SPECIFICATIONS[name].replace(b"RUN", state.run_id.encode()))
    for arguments in (["predict", state.run_id, "x"], ["extend", "one", "--epochs", "1", "--trust"]):
        refused(capsys, *arguments)
    is_named_and_mended(state, capsys, "specification", str(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.EVENTS)
def test_an_event(name: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    log = state.trial / "events.jsonl"
    before = log.read_bytes()
    first, rest = before.split(b"\n", 1)
    log.write_bytes(first + b"\n" + corpus.EVENTS[name] + b"\n" + rest)
    is_named_and_mended(state, capsys, "log", str(log))
    assert log.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.THINGS)
def test_what_is_no_file(
    name: str, state: State, nothing_is_executed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = name.partition("-")[2]
    path = state.trial / place
    path.unlink()
    corpus.THINGS[name](path)
    _, found = examined(capsys)
    if not name.startswith("outside") and place != "artifacts/log.txt":
        assert [line for line in found if place in line], found
    examined(capsys, "--fix")
    for file in state.folder.glob("trials/*/artifacts/**/*"):
        if file.is_file() and not file.is_symlink() and file.name != "diff.patch":  # which shows this file
            assert b"secret" not in file.read_bytes(), file
    if name.startswith(("pipe", "outside")):
        again = ["study", TOY, "--trials", "2", "--no-test", "--study-name", "one", "--trust"]
        status, answer, err = run(capsys, *again)
        assert "Traceback" not in err and status in (0, 1, 2), (answer, err)


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.TAGS)
def test_a_tag(name: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    key, value = corpus.TAGS[name]
    for status in ("FINISHED", "RUNNING"):
        state.sql("mlflow.db", "UPDATE runs SET status = ?", status)
        state.sql("mlflow.db", "UPDATE tags SET value = ? WHERE key = ?", value, key)
        state.sql("mlflow.db", "INSERT OR REPLACE INTO tags SELECT ?, ?, run_uuid FROM runs", key, value)
        for command in (["doctor", "--fix"], ["doctor"], ["runs"]):
            code, _, err = run(capsys, *command)
            assert code in (0, 1) and "Traceback" not in err


def set_attribute(state: State, key: str, value: str) -> None:
    number = "(SELECT study_id FROM studies WHERE study_name = 'one')"
    state.sql("optuna.db", f"DELETE FROM study_user_attributes WHERE key = ? AND study_id = {number}", key)
    insert = f"INSERT INTO study_user_attributes (study_id, key, value_json) VALUES ({number}, ?, ?)"
    state.sql("optuna.db", insert, key, value)


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.DATABASES)
def test_a_database(name: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    set_attribute(state, *corpus.DATABASES[name])
    status, found = examined(capsys)
    assert status == 1 and found[0].startswith(f"database: {state.folder / 'optuna.db'}: "), found
    refused(capsys, "extend", "two", "--epochs", "1", "--trust")
    assert examined(capsys, "--fix")[0] == 0 and (state.folder / "optuna.db.broken").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.STUDIES)
def test_a_study(name: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    set_attribute(state, *corpus.STUDIES[name])
    status, found = examined(capsys)
    assert status == 1 and [line for line in found if line.startswith("study: ") and "one" in line], found
    assert not [line for line in found if not line.startswith("study: ")], "the other study is sound"
    refused(capsys, "extend", "one", "--epochs", "1", "--trust")
    status, answer, err = run(capsys, "study", TOY, "--trials", "2", "--no-test", "--study-name", "two", "--trust")
    assert status == 0 and len(answer["trials"]) == 2, err


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.CHECKPOINTS)
def test_a_checkpoint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "state"
    made.mkdir()
    tiny_models.words(made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_HOME", str(made))
    path = made / "trials" / "aa01" / "checkpoints" / "best.ckpt"
    path.write_bytes(corpus.CHECKPOINTS[name]())
    line = refused(capsys, "predict", "aa01", "turkey")
    assert str(path) in line, line
    assert main(["doctor", "--fix"]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_the_canary_would_be_seen() -> None:
    """Fails before the fixture does: what the corpus runs makes the canary."""
    import pickle

    pickle.loads(pickle.dumps(corpus.Touch()))
    assert corpus.CANARY.exists()
    os.unlink(corpus.CANARY)
