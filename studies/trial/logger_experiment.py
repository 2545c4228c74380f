"""`self.logger.experiment`: calls of MLflow's, TensorBoard's and Weights & Biases' loggers, turned into events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from studies.common.suggestions import did_you_mean
from studies.trial.logged_images import as_numbers
from studies.trial.logged_values import Logged, artifact_path, as_text, close_figure

HPARAMS = "hparams."  # prefix of parameters logged by `log_hyperparams`

# Calls of SummaryWriter and wandb's run that are accepted, so that code using them trains, but not logged.
NOT_KEPT = (
    *("add_audio", "add_custom_scalars", "add_custom_scalars_marginchart", "add_custom_scalars_multilinechart"),
    *("add_embedding", "add_graph", "add_histogram_raw", "add_mesh", "add_onnx_graph", "add_tensor", "add_video"),
    *("define_metric", "unwatch", "watch"),
)


class Experiment:
    """`logger.experiment`. Accepts the calls of TensorBoard's SummaryWriter and MlflowClient's logging calls.

    MlflowClient's first argument, the run, is ignored: it is always this trial's. Timestamps are ignored as well.
    """

    def __init__(self, logged: Logged, log_dir: str) -> None:
        self._logged = logged
        self.log_dir = log_dir

    def __getattr__(self, name: str) -> Any:
        if name in NOT_KEPT:
            return lambda *args, **kwargs: self._logged.not_kept(f"logger.experiment.{name}")
        if name.startswith("_"):
            raise AttributeError(name)
        has = [item for item in dir(type(self)) if not item.startswith("_")]
        raise AttributeError(f"logger.experiment has no {name}{did_you_mean(name, has)}")

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    # -- SummaryWriter ---------------------------------------------------------------------------------------

    def get_logdir(self) -> str:
        return self.log_dir

    def flush(self) -> None:
        """No-op: events are written when they are emitted."""

    def close(self) -> None:
        pass

    def add_scalar(self, tag: Any, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any) -> None:
        self._logged.metrics({as_text(tag): scalar_value}, global_step)

    def add_scalars(
        self, main_tag: Any, tag_scalar_dict: Mapping[str, Any], global_step: Any = None, walltime: Any = None
    ) -> None:
        self._logged.metrics({f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}, global_step)

    def add_image(
        self, tag: Any, img_tensor: Any, global_step: Any = None, walltime: Any = None, dataformats: str = "CHW"
    ) -> None:
        self._logged.image(self._logged.numbered("images", tag, global_step, ".png"), img_tensor, dataformats)

    def add_images(
        self, tag: Any, img_tensor: Any, global_step: Any = None, walltime: Any = None, dataformats: str = "NCHW"
    ) -> None:
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_image_with_boxes(
        self,
        tag: Any,
        img_tensor: Any,
        box_tensor: Any,
        global_step: Any = None,
        walltime: Any = None,
        rescale: float = 1,
        dataformats: str = "CHW",
        labels: Sequence[str] | None = None,
    ) -> None:
        self._logged.image(
            self._logged.numbered("images", tag, global_step, ".png"),
            with_boxes(img_tensor, dataformats, box_tensor, rescale, labels),
        )

    def add_figure(
        self, tag: Any, figure: Any, global_step: Any = None, close: bool = True, walltime: Any = None
    ) -> None:
        for item in figure if isinstance(figure, list | tuple) else [figure]:
            self._logged.figure(self._logged.numbered("figures", tag, global_step, ".png"), item)
            if close:
                close_figure(item)

    def add_histogram(
        self, tag: Any, values: Any, global_step: Any = None, bins: Any = "tensorflow", *args: Any, **kwargs: Any
    ) -> None:
        path = self._logged.numbered("histograms", tag, global_step, ".png")
        self._logged.histogram(path, as_text(tag), values, bins)

    def add_text(self, tag: Any, text_string: Any, global_step: Any = None, walltime: Any = None) -> None:
        self._logged.text(self._logged.numbered("text", tag, global_step, ".txt"), text_string)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Any = None,
        run_name: Any = None,
        global_step: Any = None,
    ) -> None:
        self._logged.params(hparam_dict, HPARAMS)
        self._logged.metrics(metric_dict, global_step)

    def add_pr_curve(
        self,
        tag: Any,
        labels: Any,
        predictions: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: Any = None,
    ) -> None:
        recall, precision = precision_recall(labels, predictions, num_thresholds, weights)
        path = self._logged.numbered("pr_curves", tag, global_step, ".png")
        self._logged.curve(path, as_text(tag), recall, precision, ("recall", "precision"))

    # -- MlflowClient ----------------------------------------------------------------------------------------

    def log_metric(
        self, run_id: str, key: str, value: Any, timestamp: Any = None, step: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        self._logged.metrics({key: value}, step)

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """`log_metrics(metrics, step)`, or the same with a run id first."""
        given = {**dict(zip(("metrics", "step"), _without_run(args), strict=False)), **kwargs}
        self._logged.metrics(given["metrics"], given.get("step"))

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Any] = (),
        params: Iterable[Any] = (),
        tags: Iterable[Any] = (),
        *args: Any,
        **kwargs: Any,
    ) -> None:
        for metric in metrics:
            self._logged.metrics({metric.key: metric.value}, metric.step)
        self._logged.params({param.key: param.value for param in params})
        self._logged.tags({tag.key: tag.value for tag in tags})

    def log_param(self, run_id: str, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        self._logged.params({key: value})
        return value

    def log_params(self, *args: Any, **kwargs: Any) -> None:
        given = {**dict(zip(("params",), _without_run(args), strict=False)), **kwargs}
        self._logged.params(given["params"])

    def set_tag(self, run_id: str, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        self._logged.tags({key: value})

    def set_tags(self, *args: Any, **kwargs: Any) -> None:
        given = {**dict(zip(("tags",), _without_run(args), strict=False)), **kwargs}
        self._logged.tags(given["tags"])

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self._logged.text(artifact_path(artifact_file), text)

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:
        path = artifact_path(artifact_file)
        if PurePosixPath(path).suffix in (".yaml", ".yml"):
            import yaml

            self._logged.text(path, yaml.dump(dictionary, default_flow_style=False, allow_unicode=True))
        else:
            self._logged.json(path, dictionary)

    def log_figure(
        self, run_id: str, figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self._logged.figure(artifact_path(artifact_file), figure, **(save_kwargs or {}))

    def log_image(
        self,
        run_id: str,
        image: Any,
        artifact_file: str | None = None,
        key: str | None = None,
        step: Any = None,
        timestamp: Any = None,
        synchronous: Any = None,
    ) -> None:
        if artifact_file is None and key is None:
            raise TypeError("log_image needs artifact_file or key")
        path = artifact_path(artifact_file) if artifact_file else self._logged.numbered("images", key, step, ".png")
        self._logged.image(path, image)

    def log_table(self, run_id: str, data: Any, artifact_file: str) -> None:
        """Logs a table from a dictionary or DataFrame; rows are appended to an existing one, as in MLflow."""
        columns = {str(name): _column(values) for name, values in (data.items() if hasattr(data, "items") else data)}
        self._logged.append(artifact_path(artifact_file), columns)

    def log_artifact(self, run_id: str, local_path: Any, artifact_path: Any = None) -> None:
        self._logged.copy(local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: Any, artifact_path: Any = None) -> None:
        self._logged.copy_all(local_dir, artifact_path)

    # -- wandb's run -----------------------------------------------------------------------------------------

    def log(self, data: Mapping[str, Any], step: Any = None, *args: Any, **kwargs: Any) -> None:
        """Logs numbers and images by name."""
        for name, value in data.items():
            if hasattr(value, "savefig"):
                self._logged.figure(self._logged.numbered("figures", name, step, ".png"), value)
            elif hasattr(value, "image"):
                self._logged.image(self._logged.numbered("images", name, step, ".png"), value)
            else:
                self._logged.metrics({name: value}, step)

    @property
    def config(self) -> Assigned:
        """Logs parameters: `config["lr"] = 0.1`, `config.update({...})`."""
        return Assigned(lambda values: self._logged.params(values, HPARAMS))

    @property
    def summary(self) -> Assigned:
        """Logs metrics in the same way."""
        return Assigned(self._logged.metrics)


class Assigned:
    """A write-only mapping."""

    def __init__(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        self._take = take

    def __setitem__(self, name: str, value: Any) -> None:
        self._take({name: value})

    def update(self, values: Any, **options: Any) -> None:
        self._take(mapping(values))


def with_boxes(image: Any, dataformats: str, boxes: Any, scale: float, labels: Sequence[str] | None) -> Any:
    """The image with boxes (left, top, right, bottom) drawn into it."""
    from PIL import ImageDraw

    from studies.trial.logged_images import as_image

    picture = as_image(image, dataformats).convert("RGB")
    if scale != 1:
        picture = picture.resize((int(picture.width * scale), int(picture.height * scale)))
    draw = ImageDraw.Draw(picture)
    for index, box in enumerate(as_numbers(boxes).reshape(-1, 4) * scale):
        left, top, right, bottom = (float(side) for side in box)
        edges = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        draw.rectangle(edges, outline="red", width=2)
        if labels is not None and index < len(labels):
            draw.text(edges[:2], as_text(labels[index]), fill="red")
    return picture


def precision_recall(labels: Any, scores: Any, thresholds: int, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of scores from 0 to 1 at evenly spaced thresholds."""
    truth, score = as_numbers(labels).ravel().astype(bool), as_numbers(scores).ravel().astype(np.float64)
    weight = np.ones(len(truth)) if weights is None else as_numbers(weights).ravel().astype(np.float64)
    found = score[None, :] >= np.linspace(0, 1, max(2, thresholds))[:, None]
    right, said = (found * (weight * truth)).sum(axis=1), (found * weight).sum(axis=1)
    recall = right / max((weight * truth).sum(), 1e-12)
    return recall, np.divide(right, said, out=np.ones_like(right), where=said > 0)


def mapping(params: Any) -> Mapping[Any, Any]:
    """Hyperparameters as a mapping: a dictionary, a Namespace, a dataclass, or nothing."""
    if params is None:
        return {}
    return params if isinstance(params, Mapping) else vars(params)


def _without_run(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return args[1:] if args and isinstance(args[0], str) else args


def _column(values: Any) -> list[Any]:
    if hasattr(values, "tolist"):
        values = values.tolist()
    return list(values) if isinstance(values, list | tuple) else [values]
