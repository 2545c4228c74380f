"""The logger that modules see as `self.logger`: what they log appears in MLflow.

It supports the calls of TensorBoardLogger, MLFlowLogger, WandbLogger and CSVLogger, and `logger.experiment` those of
TensorBoard's SummaryWriter and of MlflowClient. No call waits for a database: numbers become events in the trial's
log, and images, texts and tables become files in its folder artifacts/ (see logged_values.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger, Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from studies.protocol.channel import Channel
from studies.trial.arguments import parse_section
from studies.trial.logged_values import Logged
from studies.trial.logger_experiment import HPARAMS, Experiment, mapping


class EventLogger(Logger):
    """Lightning's logger: whatever a module logs becomes a Metrics event at Lightning's step.

    Lightning calls it once per logging interval (`log_every_n_steps`) and once per validation, so the cost
    of an event, about 20 µs, is not paid per step.

    Args:
        channel: where events are sent; None discards them.
        folder: the trial's; files are written to its folder artifacts/.
        run_id: of the trial's MLflow run.
    """

    def __init__(self, channel: Channel | None, folder: str | Path, run_id: str) -> None:
        super().__init__()
        self.logged = Logged(channel, Path(folder) / "artifacts")
        self.run_id = run_id
        self._folder = folder
        self._experiment = Experiment(self.logged, str(self.log_dir))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is silent: only one object in one process logs for a trial."""
        return type(self), (None, self._folder, self.run_id)

    @property
    def trainer(self) -> Trainer | None:
        return self.logged.trainer

    @trainer.setter
    def trainer(self, trainer: Trainer) -> None:
        self.logged.trainer = trainer

    @property
    def muted(self) -> bool:
        return self.logged.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self.logged.muted = muted

    # The values of Lightning's own loggers in a new folder, for code that builds paths from them:
    # ModelCheckpoint writes to artifacts/lightning_logs/version_0/checkpoints.

    @property
    def save_dir(self) -> str:
        return str(self.logged.artifacts)

    @property
    def name(self) -> str:
        return "lightning_logs"

    @property
    def version(self) -> int:
        return 0

    @property
    def root_dir(self) -> str:
        return str(self.logged.artifacts / self.name)

    @property
    def log_dir(self) -> str:
        return str(self.logged.artifacts / self.name / f"version_{self.version}")

    @property
    @rank_zero_experiment
    def experiment(self) -> Experiment:
        """Accepts the calls of SummaryWriter and MlflowClient; a no-op on ranks other than 0."""
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.logged.metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None, **options: Any) -> None:
        """Logs hyperparameters as hparams.NAME, and metrics with them, as in TensorBoardLogger."""
        self.logged.params(mapping(params), HPARAMS)
        if metrics is not None:
            self.log_metrics(metrics if isinstance(metrics, Mapping) else {"hp_metric": metrics}, step or 0)

    @rank_zero_only
    def log_image(
        self, key: str, images: Sequence[Any], step: int | None = None, caption: Any = None, **options: Any
    ) -> None:
        """Logs images as in WandbLogger: arrays, tensors, PIL images, figures or file paths."""
        several = images if isinstance(images, list | tuple) else [images]
        captions = [caption] if isinstance(caption, str) else list(caption or ())
        for index, image in enumerate(several):
            is_file = isinstance(image, str | Path)
            path = self.logged.numbered("images", key, step, PurePosixPath(image).suffix if is_file else ".png")
            if is_file:
                self.logged.file(path, lambda file, source=image: file.write(Path(source).read_bytes()), "image")  # type: ignore[misc]
            else:
                self.logged.image(path, image)
            if index < len(captions):
                self.logged.text(str(PurePosixPath(path).with_suffix(".txt")), captions[index])

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Logs a table as in WandbLogger, in MLflow's format."""
        if dataframe is not None:
            columns, data = list(dataframe.columns), dataframe.to_numpy().tolist()
        self.logged.table(self.logged.numbered("tables", key, step, ".json"), columns, data)

    def log_text(self, key: str, *args: Any, **kwargs: Any) -> None:
        """Logs a table of texts as in WandbLogger."""
        self.log_table(key, *args, **kwargs)

    @rank_zero_only
    def log_audio(self, key: str, *args: Any, **kwargs: Any) -> None:
        self.logged.not_kept("logger.log_audio")

    @rank_zero_only
    def log_video(self, key: str, *args: Any, **kwargs: Any) -> None:
        self.logged.not_kept("logger.log_video")

    def watch(self, model: Any, *args: Any, **kwargs: Any) -> None:
        self.logged.not_kept("logger.watch")

    def unwatch(self, model: Any) -> None:
        """No-op: nothing is watched."""


def loggers_beside(theirs: Any, ours: Logger | bool) -> list[Logger]:
    """A Trainer's loggers: the user's, the first of which is the module's `self.logger`, and ours.

    Args:
        theirs: the Trainer's `logger` argument: one, several, or None, True or False, which all mean ours alone.
        ours: False if there is none.
    """
    several = [theirs] if isinstance(theirs, Logger) else list(theirs) if isinstance(theirs, Iterable) else []
    return [*several, ours] if isinstance(ours, Logger) else several


def stand_ins(section: Any, folder: str | Path) -> list[Logger]:
    """Replacements for the user's loggers in the preflight check, where they must leave nothing behind.

    Lightning's own file loggers write to the given folder. Any other may open connections or create runs, so it is
    replaced by a logger whose calls do nothing, as in Lightning's `fast_dev_run`.

    Args:
        section: the experiment's trainer.logger as written: {class_path, init_args}, several of them, or a bool.

    Raises:
        ValueError: in one line: a logger cannot be built, e.g. because its package is missing.
    """
    several = section if isinstance(section, list | tuple) else [section] if isinstance(section, Mapping | str) else []
    return [_stand_in({"class_path": item} if isinstance(item, str) else dict(item), folder) for item in several]


def _stand_in(item: dict[str, Any], folder: str | Path) -> Logger:
    cls = type(_made(item))
    if cls in (CSVLogger, TensorBoardLogger):
        return _made({**item, "init_args": {**(item.get("init_args") or {}), "save_dir": str(folder)}})
    return StandIn(folder, cls.__name__)


def _made(item: dict[str, Any]) -> Logger:
    """Instantiates a logger. Like Lightning's own, it should write nothing before the fit."""
    try:
        return parse_section("trainer", {"logger": item}).instantiated()["logger"]  # type: ignore[no-any-return]
    except Exception as error:
        line = " ".join(str(error).split())
        raise ValueError(f"trainer.logger cannot be built: {type(error).__name__}: {line}") from error


class StandIn(DummyLogger):
    """A no-op logger that has a logger's folders."""

    def __init__(self, folder: str | Path, name: str | None) -> None:
        super().__init__()
        self._folder, self._name = str(folder), name or ""

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return "preflight"

    @property
    def save_dir(self) -> str:
        return self._folder

    root_dir = log_dir = save_dir
