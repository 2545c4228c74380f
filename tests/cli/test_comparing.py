"""The colours of `harness compare`, and ids that begin alike."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from studies.cli.main import main


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def runs(client: MlflowClient) -> list[str]:
    """Runs of which the second has another rate."""
    ids = []
    for rate, loss in (("0.1", 0.5), ("0.2", 0.5), ("0.1", 0.25)):
        run_id = client.create_run("0", tags={"harness.kind": "run"}).info.run_id
        client.log_param(run_id, "model.rate", rate)
        client.log_metric(run_id, "val/loss", loss)
        ids.append(run_id)
    return ids


def compared(ids: list[str], monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, str]:
    """The rows of the table on a terminal, by their names."""
    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "200", **environment}.items():
        monkeypatch.setenv(name, value)
    assert main(["compare", *ids]) == 0
    return {line.split()[0]: line for line in terminal.getvalue().splitlines() if line}


def test_what_differs_from_the_first_run_is_yellow(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = compared(runs, monkeypatch)
    assert rows["model.rate"].split()[1:] == ["0.1", "\x1b[33m0.2\x1b[0m", "0.1"]
    assert rows["val/loss"].split()[1:] == ["0.5", "0.5", "\x1b[33m0.25\x1b[0m"]
    assert "\x1b" not in rows["run"] + rows["name"] + rows["status"]
    plain = {name: line.replace("\x1b[33m", "").replace("\x1b[0m", "") for name, line in rows.items()}
    assert plain == compared(runs, monkeypatch, NO_COLOR="1"), "the columns are as without colours"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(
    runs: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in str(compared(runs, monkeypatch, **environment))


def test_a_second_block_is_compared_with_the_first_run_too(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = compared([runs[0], runs[2], runs[1]], monkeypatch, COLUMNS="30")
    assert rows["model.rate"].split()[1:] == ["\x1b[33m0.2\x1b[0m"]


def test_no_colours_in_a_pipe(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_ids_are_as_long_as_they_must_be(home: Path, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (home / "trials" / f"{runs[0][:9]}{'f' if runs[0][9] != 'f' else 'e'}0").mkdir(parents=True)
    for command in (["compare", *runs], ["runs"]):
        assert main(command) == 0
        shown = capsys.readouterr().out.split()
        assert runs[0][:10] in shown and runs[1][:8] in shown
