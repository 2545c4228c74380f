"""What `studies.train` with several seeds and `studies.confirm` return."""

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


@dataclass(frozen=True)
class SeedsResult:
    """Runs of one configuration on several seeds.

    Attributes:
        run_id: of the parent run in MLflow.
        status: finished.
        metric: the searched metric, or None.
        summaries: metric -> seeds, mean, std, and low and high of its 95% interval.
        rows: each seed's run as a dictionary.
        wall_seconds: of this command.
        folder: the parent run's, with artifacts/.
    """

    run_id: str
    status: str
    metric: str | None
    summaries: dict[str, dict[str, Any]]
    wall_seconds: float
    folder: Path = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, answer: dict[str, Any]) -> SeedsResult:
        folder = StateFolder.find().trial_folder(answer["run_id"])
        names = ("run_id", "status", "metric", "wall_seconds")
        return cls(
            **{name: answer[name] for name in names}, summaries=answer["metrics"], folder=folder, rows=answer["seeds"]
        )

    @property
    def metrics(self) -> pandas.DataFrame:
        """A row for each metric: seeds, mean, std, low, high."""
        import pandas

        return pandas.DataFrame.from_dict(self.summaries, orient="index")

    @property
    def seeds(self) -> pandas.DataFrame:
        """A row for each seed: run_id, status, and its metrics."""
        import pandas

        rows = [
            {"seed": row["seed"], "run_id": row["run_id"], "status": row["status"]} | row["metrics"]
            for row in self.rows
        ]
        return pandas.DataFrame(rows).set_index("seed")

    @property
    def pictures(self) -> list[Path]:
        """PNG files: the curves of all seeds with bands."""
        return sorted((self.folder / "artifacts" / "pictures").glob("*.png"))

    def _repr_html_(self) -> str:
        heading = f"run {self.run_id[:8]} {self.status}: {len(self.rows)} seeds in {self.wall_seconds:.0f} s"
        return f"<p>{heading}</p>{self.metrics.to_html()}{pictures_as_html(self.pictures)}"


@dataclass(frozen=True)
class ConfirmResult:
    """What `confirm` has shown.

    Attributes:
        study, metric, direction: of the study.
        verdict: what was shown about the best configuration, in one sentence.
        winner: the confirmed configuration, such as "trial 7", which alone was tested; None: none is confirmed.
        test: the winner's metrics on the test set over its seeds: seeds, mean, std, low and high of each.
        wall_seconds: of this command.
        folder: the confirm's own run's, with artifacts/.
    """

    study: str
    metric: str
    direction: str
    verdict: str
    winner: str | None
    test: dict[str, dict[str, Any]]
    wall_seconds: float
    folder: Path = field(repr=False)
    compared: list[dict[str, Any]] = field(repr=False)
    trained: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, answer: dict[str, Any]) -> ConfirmResult:
        """The result in a command's answer.

        Raises:
            WorkFailed: no comparison could be made.
        """
        if answer["exit_status"]:
            raise WorkFailed(f"confirm {answer['study']} {answer['status']}: {answer['verdict']}")
        names = ("study", "metric", "direction", "verdict", "winner", "test", "wall_seconds")
        folder = StateFolder.find().trial_folder(answer["run_id"])
        compared, configurations = answer["comparisons"], answer["configurations"]
        return cls(**{name: answer[name] for name in names}, folder=folder, compared=compared, trained=configurations)

    @property
    def comparisons(self) -> pandas.DataFrame:
        """A row for each comparison: a, b, verdict, difference with its interval, P(better), p."""
        import pandas

        return pandas.DataFrame(self.compared)

    @property
    def configurations(self) -> pandas.DataFrame:
        """A row for each configuration: what the search saw, the mean on fresh seeds, luck, and its values."""
        import pandas

        rows = [
            {"name": row["name"], "searched": row["searched"], "luck": row["luck"], "values": row["values"]}
            | {"mean": None if row["summary"] is None else row["summary"]["mean"]}
            for row in self.trained
        ]
        return pandas.DataFrame(rows).set_index("name")

    def _repr_html_(self) -> str:
        pictures = sorted((self.folder / "artifacts" / "pictures").glob("*.png"))
        return f"<p>{html.escape(self.verdict)}</p>{self.comparisons.to_html()}{pictures_as_html(pictures)}"
