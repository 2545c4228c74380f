"""What `studies.train` and `studies.study` return."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.common.errors import WorkFailed
from studies.common.state_folder import StateFolder
from studies.python_api.notebook import pictures_as_html

if TYPE_CHECKING:
    import pandas

SHOWN = 4  # pictures
FIRST = ("history", "parallel_coordinates", "importance")  # of a study


@dataclass(frozen=True)
class TrainResult:
    """A run of `train`.

    Attributes:
        run_id: MLflow's.
        status: finished.
        metrics: last values of validation, best values and those of the test, by name.
        wall_seconds: of this command.
        folder: the run's, with checkpoints/ and artifacts/.
    """

    run_id: str
    status: str
    metrics: dict[str, float]
    wall_seconds: float
    folder: Path = field(repr=False)

    @classmethod
    def of(cls, answer: dict[str, Any]) -> TrainResult:
        """The result in a command's answer."""
        folder = StateFolder.find().trial_folder(answer["run_id"])
        return cls(answer["run_id"], answer["status"], answer["metrics"], answer["wall_seconds"], folder)

    @property
    def pictures(self) -> list[Path]:
        """PNG files."""
        return sorted((self.folder / "artifacts" / "pictures").glob("*.png"))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(name)}</td><td>{value:.6g}</td></tr>'
            for name, value in self.metrics.items()
        )
        heading = f"run {self.run_id[:8]} {self.status} in {self.wall_seconds:.0f} s"
        return f"<p>{heading}</p><table>{rows}</table>{pictures_as_html(self.pictures[:SHOWN])}"


@dataclass(frozen=True)
class StudyResult:
    """A study after this command.

    Attributes:
        study: its name.
        status: finished or timeout.
        metric: by which it is judged.
        direction: maximize or minimize.
        best: `number`, `value`, `params` and `run_id` of the best trial; None if none is complete.
        test: the champion's test metrics.
        wall_seconds: of this command.
        folder: of the study's own run, with artifacts/.
        rows: the trials as dictionaries.
    """

    study: str
    status: str
    metric: str
    direction: str
    best: dict[str, Any] | None
    test: dict[str, float]
    wall_seconds: float
    folder: Path = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, answer: dict[str, Any]) -> StudyResult:
        """The result in a command's answer.

        Raises:
            WorkFailed: no trial is complete, or too many have failed.
        """
        if answer["exit_status"]:
            failed = [row for row in answer["trials"] if row["state"] == "FAIL"]
            reason = f": trial {failed[-1]['number']} failed (`harness runs` shows why)" if failed else ""
            raise WorkFailed(f"study {answer['study']} {answer['status']}{reason}")
        names = ("study", "status", "metric", "direction", "best", "test", "wall_seconds")
        folder = StateFolder.find().trial_folder(answer["run_id"])
        return cls(**{name: answer[name] for name in names}, folder=folder, rows=answer["trials"])

    @property
    def trials(self) -> pandas.DataFrame:
        """A row for each trial: number, state, value, run_id, and its parameters by dotted name."""
        import pandas

        rows = [{key: value for key, value in row.items() if key != "params"} | row["params"] for row in self.rows]
        return pandas.DataFrame(rows).set_index("number")

    @property
    def pictures(self) -> list[Path]:
        """PNG files: history, parallel coordinates, importance, slices, as far as there are trials for them."""
        found = (self.folder / "artifacts" / "pictures").glob("*.png")
        return sorted(found, key=lambda path: (path.stem not in FIRST, path.stem))

    def _repr_html_(self) -> str:
        best = "" if self.best is None else f": best {html.escape(self.metric)} {self.best['value']:.6g}"
        best += "" if self.best is None else f" (trial {self.best['number']})"
        heading = f"study {html.escape(self.study)} {self.status} in {self.wall_seconds:.0f} s{best}"
        table = self.trials.drop(columns="run_id").sort_values("value", ascending=self.direction == "minimize")
        return f"<p>{heading}</p>{table.head(10).to_html()}{pictures_as_html(self.pictures[:SHOWN])}"


@dataclass(frozen=True)
class ReportPage:
    """A report. `path`: its HTML file."""

    path: Path

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="width:100%;height:40em;border:0"></iframe>'
