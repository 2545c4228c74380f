"""The modules' logger: each of its methods, the same metrics as plain Lightning, and everything in MLflow."""

import copy
import json
import pickle
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from commands import run
from fakes import Calls
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from test_run import TOY, StopAfter, events_of

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Event, Finished, Metrics, Params, Started, Stopped, Tags
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import TrialRecord
from studies.trial.instantiate import build
from studies.trial.logged_images import as_image
from studies.trial.logged_values import artifact_path, safe_path
from studies.trial.logger import EventLogger, loggers_beside, stand_ins
from studies.trial.run import run as run_trial


class Heard(Channel):
    """A channel that records events."""

    def __init__(self) -> None:
        super().__init__(None)
        self.events: list[Event] = []

    def emit(self, event: Event, *, durable: bool = False) -> None:
        self.events.append(event)

    def points(self) -> list[tuple[str, int, float]]:
        return [
            (name, event.step, value)
            for event in self.events
            if isinstance(event, Metrics)
            for name, value in event.values.items()
        ]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def logger(heard: Heard, tmp_path: Path) -> EventLogger:
    return EventLogger(heard, tmp_path, "abc")


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Paths below artifacts/."""

    def paths() -> set[str]:
        top = tmp_path / "artifacts"
        return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}

    return paths


# -- numbers -------------------------------------------------------------------------------------------------


def test_scalars_as_tensorboard_takes_them(logger: EventLogger, heard: Heard) -> None:
    writer = logger.experiment
    writer.add_scalar("a", torch.tensor(1.5, requires_grad=True), 3)
    writer.add_scalar("a", np.float32(2.0), np.int64(4), 12345.6)
    writer.add_scalar("no/step", 1)
    writer.add_scalars("both", {"x": 1, "y": torch.tensor([2.0])}, global_step=torch.tensor(7))
    writer.add_hparams({"lr": 0.1}, {"score": 0.5})
    points = [("a", 3, 1.5), ("a", 4, 2.0), ("no/step", 0, 1.0), ("both/x", 7, 1.0), ("both/y", 7, 2.0)]
    assert heard.points() == [*points, ("score", 0, 0.5)]
    assert Params({"hparams.lr": "0.1"}, time=0) in [event.__class__(event.values, time=0) for event in said(heard)]


def said(heard: Heard) -> list[Any]:
    return [event for event in heard.events if isinstance(event, Params | Tags)]


def test_values_as_mlflow_takes_them(logger: EventLogger, heard: Heard) -> None:
    writer, run_id = logger.experiment, logger.run_id
    writer.log_metric(run_id, "a", 1.0, 123, 5)
    writer.log_metric(run_id, key="b", value=2.0, step=6)
    writer.log_metrics({"c": 3.0}, step=7)
    writer.log_metrics(run_id, {"d": 4.0}, 8)
    writer.log_batch(run_id, [Metric("e", 5.0, 0, 9)], [Param("p", "1")], [RunTag("t", "2")])
    assert heard.points() == [("a", 5, 1.0), ("b", 6, 2.0), ("c", 7, 3.0), ("d", 8, 4.0), ("e", 9, 5.0)]
    assert writer.log_param(run_id, "q", [1, 2]) == [1, 2]
    writer.log_params({"r": None})
    writer.set_tag(run_id, "kind", 3)
    values = [(type(event), event.values) for event in said(heard)]
    first = [(Params, {"p": "1"}), (Tags, {"t": "2"})]
    assert values == [*first, (Params, {"q": "[1, 2]"}), (Params, {"r": "None"}), (Tags, {"kind": "3"})]


def test_non_numbers_are_reported_once_and_the_rest_is_logged(
    logger: EventLogger, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        logger.log_metrics({"text": "x", "many": torch.ones(2), "nested": {"x": 1}, "nan": float("nan")}, 1)  # type: ignore[dict-item]
    assert [point[:2] for point in heard.points()] == 3 * [("nested/x", 1), ("nan", 1)]
    assert caplog.messages == [
        "metric text is not logged: a str is not one number",
        "metric many is not logged: a Tensor is not one number",
    ]


@pytest.mark.parametrize("params", [{"a": {"b": 1}, "c": [1]}, Namespace(a=Namespace(b=1), c=[1])])
def test_hyperparameters_are_text_under_prefixed_names(params: Any, logger: EventLogger, heard: Heard) -> None:
    logger.log_hyperparams(params, {"hp": 0.5})
    logger.log_hyperparams(params)
    assert [event.values for event in said(heard)] == [{"hparams.a.b": "1", "hparams.c": "[1]"}], "said once"
    assert heard.points() == [("hp", 0, 0.5)]


def test_a_parameter_keeps_its_first_value(logger: EventLogger, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    class Nameless:
        def __str__(self) -> str:
            raise RuntimeError

    for value in (1, 2, 2, Nameless()):
        logger.log_hyperparams({"a": value})
    logger.log_hyperparams({"b": Nameless(), "c": "\ud800" + "x" * 10**5})
    first, second = (event.values for event in said(heard))
    assert first == {"hparams.a": "1"} and second["hparams.b"] == "<Nameless>"
    assert len(second["hparams.c"]) == 6000 and second["hparams.c"].encode()
    assert caplog.messages == ["parameter hparams.a keeps its first value"]


# -- pictures, texts, tables ---------------------------------------------------------------------------------

FLOATS = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("image", "order", "size", "mode"),
    [
        (FLOATS, "CHW", (6, 4), "RGB"),
        (FLOATS.bfloat16().requires_grad_(), "CHW", (6, 4), "RGB"),
        (FLOATS.numpy().transpose(1, 2, 0), "HWC", (6, 4), "RGB"),
        (FLOATS[:1], "CHW", (6, 4), "L"),
        (FLOATS[0], "HW", (6, 4), "L"),
        (FLOATS[0] > 0.5, "CHW", (6, 4), "L"),
        ((255 * FLOATS).byte(), "CHW", (6, 4), "RGB"),
        ((255 * FLOATS).long().numpy(), "CHW", (6, 4), "RGB"),
        (torch.ones(4, 4, 6), "CHW", (6, 4), "RGBA"),
        (torch.ones(11, 3, 4, 6), "NCHW", (48, 8), "RGB"),
        (np.ones((2, 4, 6, 1)), "NHWC", (12, 4), "L"),
        (FLOATS, None, (6, 4), "RGB"),
        (FLOATS.numpy().transpose(1, 2, 0), None, (6, 4), "RGB"),
        (Image.new("P", (6, 4)), "CHW", (6, 4), "P"),
    ],
)
def test_pictures_of_all_forms(image: Any, order: str | None, size: tuple[int, int], mode: str) -> None:
    picture = as_image(image, order)
    assert (picture.size, picture.mode) == (size, mode)


def test_a_pictures_values() -> None:
    assert np.array(as_image(torch.tensor([[0.0, 0.5], [1.0, 7.0]]), "HW")).tolist() == [[0, 127], [255, 255]]
    assert np.array(as_image(torch.tensor([[0, 1]]), "HW")).tolist() == [[0, 255]], "a mask"
    assert np.array(as_image(torch.tensor([[0, 300]]), "HW")).tolist() == [[0, 255]]
    assert np.array(as_image(torch.tensor([[float("nan"), -1.0]]), "HW")).tolist() == [[0, 0]]
    assert np.array(as_image(FLOATS, "CHW"))[2, 3].tolist() == (255 * FLOATS[:, 2, 3]).byte().tolist()


@pytest.mark.parametrize(
    ("shape", "order"), [((2, 4, 6), "CHW"), ((4,), "CHW"), ((3, 4, 6), "NCHWX"), ((3, 0, 6), "CHW")]
)
def test_an_invalid_picture_is_reported(shape: tuple[int, ...], order: str) -> None:
    with pytest.raises(ValueError, match="a picture"):
        as_image(torch.ones(shape), order)


def test_pictures_as_tensorboard_takes_them(logger: EventLogger, files: Any, tmp_path: Path) -> None:
    writer = logger.experiment
    writer.add_image("val/sample", FLOATS, 7)
    writer.add_image("val/sample", FLOATS, 7)
    writer.add_images("many", torch.ones(3, 1, 2, 2), 1)
    writer.add_image_with_boxes("boxes", torch.zeros(3, 20, 20), torch.tensor([[2, 3, 10, 12]]), 1, labels=["cat"])
    figure = Figure(figsize=(1, 1))
    writer.add_figure("loss", [figure, figure], 2)
    for bins in ("tensorflow", "auto", 10, [0.0, 1.0]):
        writer.add_histogram("weights", torch.tensor([0.1, 0.2, float("nan")]), 123456, bins)
    writer.add_histogram("nothing", torch.tensor([]), 0, "auto")
    writer.add_pr_curve("pr", torch.tensor([0, 1, 1]), torch.tensor([0.1, 0.4, 0.9]), 5)
    writer.add_text("note", "hällo \ud800", 3)
    several = {"images/val/sample/step_000007.png", "images/val/sample/step_000007_2.png"}
    several |= {f"histograms/weights/step_123456{count}.png" for count in ("", "_2", "_3", "_4")}
    several |= {"histograms/nothing/step_000000.png", "pr_curves/pr/step_000005.png", "text/note/step_000003.txt"}
    several |= {"images/many/step_000001.png", "images/boxes/step_000001.png"}
    assert files() == several | {"figures/loss/step_000002.png", "figures/loss/step_000002_2.png"}
    for name in files():
        if name.endswith(".png"):
            Image.open(tmp_path / "artifacts" / name).load()
    assert (tmp_path / "artifacts/text/note/step_000003.txt").read_text() == "hällo \\ud800"
    boxes = np.array(Image.open(tmp_path / "artifacts/images/boxes/step_000001.png"))
    assert boxes[3, 5].tolist() == [255, 0, 0]


def test_figures_of_pyplot_are_closed_unless_asked(logger: EventLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Figure] = []
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", SimpleNamespace(close=closed.append))
    kept, gone = Figure(), Figure()
    logger.experiment.add_figure("a", kept, 0, close=False)
    logger.experiment.add_figure("a", gone, 1)
    assert closed == [gone]


def test_files_as_mlflow_takes_them(logger: EventLogger, files: Any, tmp_path: Path) -> None:
    writer, run_id, top = logger.experiment, logger.run_id, tmp_path / "artifacts"
    writer.log_text(run_id, "hello", "notes/a.txt")
    writer.log_dict(run_id, {"a": [float("nan"), np.float32(1.5), Path("x")]}, "b.json")
    writer.log_dict(run_id, {"a": 1}, artifact_file="b.yaml")
    writer.log_figure(run_id, Figure(figsize=(1, 1)), "c.svg", save_kwargs={"dpi": 50})
    writer.log_image(run_id, FLOATS.numpy().transpose(1, 2, 0), "d.jpg")
    writer.log_image(run_id, Image.new("RGBA", (2, 2)), artifact_file="e.jpeg")
    writer.log_image(run_id, np.zeros((2, 2)), key="k", step=3)
    writer.log_table(run_id, {"x": [1, 2], "y": "one"}, "t.json")
    writer.log_table(run_id, {"z": [5]}, "t.json")
    (tmp_path / "given" / "sub").mkdir(parents=True)
    (tmp_path / "given" / "f.bin").write_bytes(b"1")
    (tmp_path / "given" / "sub" / "g.bin").write_bytes(b"2")
    writer.log_artifact(run_id, tmp_path / "given" / "f.bin")
    writer.log_artifact(run_id, str(tmp_path / "given" / "f.bin"), "to")
    writer.log_artifacts(run_id, str(tmp_path / "given"), artifact_path="all")
    writer.log_artifact(run_id, str(tmp_path / "given"))
    written = {"notes/a.txt", "b.json", "b.yaml", "c.svg", "d.jpg", "e.jpeg", "images/k/step_000003.png", "t.json"}
    written |= {"f.bin", "to/f.bin", "all/f.bin", "all/sub/g.bin", "given/f.bin", "given/sub/g.bin"}
    assert files() == written
    assert json.loads((top / "b.json").read_text()) == {"a": ["nan", 1.5, "x"]}
    assert (top / "b.yaml").read_text() == "a: 1\n" and "<svg" in (top / "c.svg").read_text()
    table = {"columns": ["x", "y", "z"], "data": [[1, "one", None], [2, None, None], [None, None, 5]]}
    assert json.loads((top / "t.json").read_text()) == table


def test_a_folder_that_holds_the_artifacts_is_copied_without_them(
    logger: EventLogger, files: Any, tmp_path: Path
) -> None:
    logger.experiment.log_text("run", "x", "x.txt")
    (tmp_path / "y.txt").write_text("y")
    logger.experiment.log_artifacts("run", str(tmp_path), "all")
    assert files() == {"x.txt", "all/y.txt"}
    logger.experiment.log_artifacts("run", str(tmp_path / "artifacts" / "all"), "more")
    assert files() == {"x.txt", "all/y.txt", "more/y.txt"}
    with pytest.raises(NotADirectoryError, match="no folder"):
        logger.experiment.log_artifacts("run", "nowhere")
    with pytest.raises(FileNotFoundError):
        logger.experiment.log_artifact("run", "nowhere.txt")


def test_pictures_and_tables_as_wandb_takes_them(logger: EventLogger, heard: Heard, files: Any, tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    Image.new("RGB", (2, 2)).save(source)
    logger.log_image("a", [FLOATS, str(source), Figure(figsize=(1, 1))], step=1, caption=["first"])
    logger.log_table("t", ["x"], [[1], [float("inf")]], step=2)
    logger.experiment.config["a"] = 1
    logger.experiment.config.update(Namespace(b=2))
    logger.experiment.summary["best"] = 0.5
    assert [event.values for event in said(heard)] == [{"hparams.a": "1"}, {"hparams.b": "2"}]
    assert heard.points() == [("best", 0, 0.5)]
    logger.log_text("words", columns=["w"], data=[["hi"]])
    logger.experiment.log(
        {"loss": 1.0, "figure": Figure(figsize=(1, 1)), "picture": SimpleNamespace(image=Image.new("L", (1, 1)))}
    )
    written = {"images/a/step_000001.png", "images/a/step_000001.txt", "images/a/step_000001_2.png"}
    written |= {"images/a/step_000001.jpg", "tables/t/step_000002.json", "tables/words/step_000000.json"}
    assert files() == written | {"figures/figure/step_000000.png", "images/picture/step_000000.png"}
    assert json.loads((tmp_path / "artifacts/tables/t/step_000002.json").read_text())["data"] == [[1], ["inf"]]


def test_a_table_of_a_dataframe(logger: EventLogger, tmp_path: Path) -> None:
    frame = pytest.importorskip("pandas").DataFrame({"x": [1, 2], "y": ["a", "b"]})
    logger.log_table("t", dataframe=frame)
    logger.experiment.log_table("run", frame, "u.json")
    for name in ("tables/t/step_000000.json", "u.json"):
        table = json.loads((tmp_path / "artifacts" / name).read_text())
        assert table == {"columns": ["x", "y"], "data": [[1, "a"], [2, "b"]]}


# -- names ---------------------------------------------------------------------------------------------------


def test_tags_have_distinct_paths() -> None:
    assert safe_path("val/loss 1.5") == "val/loss 1.5"
    tags = ["../x", "/x", "x", "x/", "//x", ".", "..", "", "ä", "ö", "a\0b", "a\nb", "\ud800", "step_1.png", "a" * 300]
    tags += ["a:b", "a?b", ".x", "x.", " x", "a/step_000001.png", "~/x", "C:\\x", 5, None]
    paths = [safe_path(tag) for tag in tags]
    assert len({*paths}) == len(tags)
    for path in paths:
        assert not Path(path).is_absolute() and ".." not in Path(path).parts and path.isascii() and path.isprintable()
        assert all(0 < len(part) < 100 and not part.startswith(".") for part in path.split("/"))


@pytest.mark.parametrize("path", ["../a", "/etc/a", "", ".", "a/../../b", "a\0b"])
def test_a_path_outside_the_artifacts_is_rejected(path: str) -> None:
    with pytest.raises(ValueError, match="an artifact's path must be relative"):
        artifact_path(path)


def test_names_used_by_the_harness_are_moved() -> None:
    assert artifact_path("a/./b.txt") == "a/b.txt"
    assert artifact_path("config.yaml") == "logged/config.yaml"
    assert artifact_path("provenance/x") == "logged/provenance/x"


def test_unsupported_calls_are_reported_once(
    logger: EventLogger, heard: Heard, files: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        for name in ("add_graph", "add_embedding", "add_audio", "add_video", "add_mesh", "add_custom_scalars"):
            getattr(logger.experiment, name)(1, 2, anything=3)
        logger.watch(None)
        logger.log_video("a", [])
    assert len(caplog.messages) == 8 and not heard.events and not files()
    assert caplog.messages[0] == "logger.experiment.add_graph is not logged: MLflow has no equivalent"
    logger.log_graph(torch.nn.Linear(1, 1))
    assert len(caplog.messages) == 8, "Lightning calls it in each fit"


def test_an_unknown_method_is_reported_with_suggestions(logger: EventLogger) -> None:
    with pytest.raises(AttributeError, match=r"has no add_scaler; did you mean add_scalar\? .*log_text"):
        logger.experiment.add_scaler("a", 1)
    assert not hasattr(logger.experiment, "get_experiment_by_name")


# -- Lightning's logger interface -------------------------------------------------------------------


def test_other_ranks_are_silent(logger: EventLogger, heard: Heard, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger.experiment.add_scalar("a", 1)
    logger.experiment.add_image("a", "whatever")
    logger.log_image("a", [FLOATS])
    logger.log_table("a", ["x"], [[1]])
    logger.log_hyperparams({"a": 1})
    assert not heard.events and not files()


def test_a_muted_logger_records_nothing(logger: EventLogger, heard: Heard, files: Any) -> None:
    logger.muted = True
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_hyperparams({"a": 1})
    logger.experiment.set_tag("run", "a", "b")
    logger.experiment.add_image("a", FLOATS)
    assert not heard.events and not files()


def test_where_it_writes(logger: EventLogger, tmp_path: Path) -> None:
    assert logger.run_id == "abc" and logger.name == "lightning_logs" and logger.version == 0
    assert Path(logger.log_dir) == Path(logger.save_dir) / logger.name / f"version_{logger.version}"
    assert Path(logger.root_dir) == Path(logger.log_dir).parent
    assert Path(logger.save_dir) == tmp_path / "artifacts" and logger.group_separator == "/"
    assert logger.experiment.log_dir == logger.experiment.get_logdir() == logger.log_dir
    logger.save()
    logger.finalize("success")
    logger.experiment.flush()
    logger.experiment.close()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda logger: pickle.loads(pickle.dumps(logger))])
def test_a_copy_is_silent(copied: Any, tmp_path: Path) -> None:
    channel = Channel(EventWriter(tmp_path / NAME))
    other = copied(EventLogger(channel, tmp_path, "abc"))
    other.log_metrics({"a": 1.0}, 1)
    assert other.run_id == "abc" and EventReader(tmp_path / NAME).read() == []


def test_the_users_loggers_come_first(logger: EventLogger) -> None:
    mine = CSVLogger("x")
    assert loggers_beside(mine, logger) == loggers_beside([mine], logger) == [mine, logger]
    for nothing in (None, True, False, []):
        assert loggers_beside(nothing, logger) == [logger]


# -- the same as plain Lightning -----------------------------------------------------------------------------


class Recorder(Logger):
    """The values that Lightning passes to a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[str, int | None, float]] = []

    name = version = "recorder"  # type: ignore[assignment]
    run_id = ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.points += [(name, step, value) for name, value in metrics.items()]


def plain(experiment: dict[str, Any], folder: Path) -> list[tuple[str, int | None, float]]:
    """The values that a logger gets when Lightning alone fits and tests an experiment."""
    pl.seed_everything(1, workers=True, verbose=False)
    parts = build(experiment, 1)
    module, datamodule = parts.module, parts.datamodule
    arguments = {**experiment["trainer"], "callbacks": [LearningRateMonitor()]}
    recorder = Recorder()
    trainer = Trainer(
        **arguments,
        logger=recorder,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=datamodule)
    trainer.test(module, datamodule=datamodule, verbose=False)
    return recorder.points


def points_of(events: list[Event]) -> list[tuple[str, int, float]]:
    return [
        (name, event.step, value)
        for event in events
        if isinstance(event, Metrics)
        for name, value in event.values.items()
    ]


@pytest.mark.parametrize("model", ["chatty.Several", "chatty.TwoOptimizers", "toy.Toy"])
@pytest.mark.parametrize(
    "trainer",
    [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 0.5}, {"max_steps": 5}, {"check_val_every_n_epoch": 2}],
    ids=str,
)
def test_the_same_points_as_plain_lightning(model: str, trainer: dict[str, Any], tmp_path: Path) -> None:
    if model == "chatty.TwoOptimizers" and "accumulate_grad_batches" in trainer:
        pytest.skip("Lightning refuses it")
    monitor = {"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"}
    experiment = {
        "model": {"class_path": model, "init_args": {"learning_rate": 0.01}},
        "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 4}},
        "trainer": {"max_epochs": 2, "log_every_n_steps": 3, **trainer},
    }
    theirs = plain(experiment, tmp_path)
    experiment["trainer"]["callbacks"] = [monitor]
    events = events_of(tmp_path / "trial", experiment, metric=None, test=True)
    assert isinstance(events[-1], Finished), events[-1]
    ours = points_of(events)
    fitted = [point for point in ours if point[0] != "test/loss"]
    assert fitted == [point for point in theirs if point[0] != "test/loss"]
    assert len([point for point in ours if point[0] == "test/loss"]) == 1


# -- resuming ------------------------------------------------------------------------------------------------


def test_a_resumed_trial_repeats_no_point(tmp_path: Path) -> None:
    def life(batches: range) -> list[Event]:
        return [Metrics(batch % 4, 0, {"own": float(number)}, batch, batch) for batch in batches for number in range(2)]

    log = EventWriter(tmp_path / NAME)
    killed = life(range(1, 7))[:-1]  # before its last event
    for event in [Started(1, "h", "cpu", {}), *killed, Started(2, "h", "cpu", {}), *life(range(5, 10))]:
        log.append(event)
    calls: Any = Calls()
    TrialRecord(TrialSpec("run", {}, 0, str(tmp_path)), calls).read()
    kept = [(event.batch, event.step, event.values["own"]) for _, _, event in calls.made if isinstance(event, Metrics)]
    assert kept == [(batch, batch % 4, float(number)) for batch in range(1, 10) for number in range(2)]


def test_stopped_and_resumed_logs_the_same_points(tmp_path: Path) -> None:
    experiment: dict[str, Any] = {**TOY, "model": {"class_path": "chatty.Several", "init_args": {}}}
    whole = events_of(tmp_path / "whole", experiment)
    folder = tmp_path / "parts"
    spec = TrialSpec("r", experiment, 1, str(folder), metric="val/loss", direction="minimize", threads=1)
    log = EventWriter(folder / NAME)
    run_trial(spec, StopAfter(log, 7))
    log.close()
    assert isinstance(EventReader(folder / NAME).read()[-1], Stopped)
    resume = str(folder / "checkpoints" / "last.ckpt")
    events_of(folder, experiment, resume=resume if Path(resume).exists() else None)
    calls: Any = Calls()
    TrialRecord(spec, calls).read()
    told = [event for _, _, event in calls.made if isinstance(event, Metrics)]
    assert sorted(points_of(told)) == sorted(points_of(whole))


# -- in MLflow -----------------------------------------------------------------------------------------------


def test_all_that_a_module_logs_is_in_mlflow(
    home: Path,
    toy: Path,
    client: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    talker = json.dumps([{"class_path": "chatty.Talker"}])
    experiment = str(toy.with_name("chatty.yaml"))
    status, answer, err = run(capsys, "train", experiment, "--seed", "1", "--trainer.callbacks", talker)
    assert status == 0 and answer["status"] == "finished", err
    run_id = answer["run_id"]
    assert "epoch" not in answer["metrics"]
    metrics = client.get_run(run_id).data.metrics

    def history(name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]

    assert history("train/scalar") == [(0, 0.0), (4, 4.0)] and history("train/client") == [(0, 0.0), (4, 2.0)]
    assert history("val/scalar") == [(4, 4.0), (8, 8.0)] and history("test/scalar") == [(8, 8.0)]
    assert history("val/mine") == [(1004, 2.0), (1008, 2.0)] and history("callback")[-1] == (8, 8.0)
    assert [step for step, _ in history("val/loss")] == [3, 7] and "epoch" in metrics
    params = client.get_run(run_id).data.params
    assert params["hparams.learning_rate"] == "0.1" and json.loads(params["model.learning_rate"]) == 0.1

    def files(folder: str | None = None) -> set[str]:
        items = client.list_artifacts(run_id, folder)
        return {item.path for item in items if not item.is_dir}.union(*(files(i.path) for i in items if i.is_dir))

    expected = {f"{stage}.png" for stage in ("train", "val", "test")}
    for stage, steps in (("train", (0, 4)), ("val", (4, 8)), ("test", (8,))):
        expected |= {f"notes/{stage}.txt", f"plots/{stage}.png", f"tables/{stage}.csv"}
        for step in steps:
            names = {"images": ("image.png", "wandb.png"), "figures": ("figure.png",), "histograms": ("weights.png",)}
            names |= {"text": ("text.txt",), "tables": ("table.json",)}
            for kind, items in names.items():
                for item in items:
                    tag, suffix = item.split(".")
                    expected.add(f"{kind}/{stage}/{tag}/step_{step:06d}.{suffix}")
    assert expected <= files()
    text = Path(client.download_artifacts(run_id, "log.txt", str(home.parent))).read_text()
    assert text.count("logger.experiment.add_graph is not logged") == 1


def test_the_users_loggers_write_to_the_users_folder(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, experiment = home.parent, toy.with_name("loyal.yaml")
    experiment.write_text(toy.with_name("chatty.yaml").read_text().replace("chatty.Chatty", "chatty.Loyal"))
    csv = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "mine", "name": "logs"}}
    loggers = json.dumps([{"class_path": "chatty.Own"}, csv])
    checkpoint = json.dumps([{"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"}])
    arguments = ["--trainer.logger", loggers, "--trainer.callbacks", checkpoint]
    status, answer, err = run(capsys, "train", str(experiment), *arguments)
    assert status == 0 and answer["status"] == "finished", err
    assert "lr-SGD" in answer["metrics"] and "val/loss" in answer["metrics"], "our logger works in addition to theirs"
    rows = (folder / "mine" / "logs" / "version_0" / "metrics.csv").read_text()
    assert "val/loss" in rows and not (folder / "mine" / "logs" / "version_1").exists(), "not in the preflight check"
    own = (folder / "own.txt").read_text().splitlines()
    assert own.count("applause") == 2 and own.count("success") == 2, "in fit and test, and not in the preflight check"


def test_a_logger_whose_package_is_missing_is_one_line(tmp_path: Path) -> None:
    for name in ("TensorBoardLogger", "WandbLogger", "NoLogger"):
        section = {"class_path": f"pytorch_lightning.loggers.{name}", "init_args": {"save_dir": "x"}}
        try:
            getattr(pl.loggers, name)(save_dir=tmp_path)
        except (ModuleNotFoundError, AttributeError):
            with pytest.raises(ValueError, match=r"^trainer\.logger cannot be built: \w+: [^\n]+$"):
                stand_ins([section], tmp_path)


def test_loggers_in_the_preflight_check_write_to_its_folder_or_nowhere(tmp_path: Path) -> None:
    csv = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "x", "name": "y"}}
    ours, theirs = stand_ins([csv, {"class_path": "chatty.Own"}], tmp_path)
    assert isinstance(ours, CSVLogger) and Path(ours.log_dir) == tmp_path / "y" / "version_0"
    theirs.experiment.whatever(1)  # type: ignore[attr-defined]
    theirs.applaud()  # type: ignore[attr-defined]
    assert theirs.log_dir == str(tmp_path)
    for nothing in (None, True, False):
        assert stand_ins(nothing, tmp_path) == []


def test_checkpoints_of_the_users_are_artifacts(logger: EventLogger, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint()
    trainer = Trainer(logger=[logger], callbacks=[checkpoint], default_root_dir=tmp_path / "elsewhere")
    checkpoint.setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert Path(str(checkpoint.dirpath)) == Path(logger.log_dir) / "checkpoints"
    assert trainer.log_dir == logger.save_dir
