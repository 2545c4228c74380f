"""What a trial's code logs apart from `self.log`: numbers, parameters and tags become events, everything else files.

The files are in the trial's folder artifacts/, which is sent to MLflow when the trial ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from pytorch_lightning import Trainer

from studies.common.atomic_files import temporary_name
from studies.protocol.channel import Channel
from studies.protocol.events import Artifact, Event, Metrics, Params, Tags
from studies.trial.logged_images import as_image, as_numbers

# Names in a run's artifacts that the harness uses; user files of these names go to `logged/`.
RESERVED = {"config.yaml", "log.txt", "traceback.txt", "checkpoints/best.ckpt"}
RESERVED_FOLDERS = ("provenance/",)
TEXT_LENGTH = 6000  # MLflow's limit for the value of a parameter or tag
LARGEST_STEP = 2**63 - 1

_log = logging.getLogger(__name__)


class Logged:
    """Receives everything that a trial's code logs.

    Args:
        channel: gets the events; None discards them, as in the preflight check.
        artifacts: folder of the files.

    Attributes:
        trainer: set once it exists. Provides the step of values that are logged without one.
        muted: nothing more is recorded: when a trial is stopped, Lightning and user code log points that the resumed
            trial logs again.
    """

    def __init__(self, channel: Channel | None, artifacts: Path) -> None:
        self.channel = channel
        self.artifacts = artifacts
        self.trainer: Trainer | None = None
        self.muted = False
        self._params: dict[str, str] = {}
        self._files: set[str] = set()  # names in use
        self._said: set[str] = set()

    # -- numbers, parameters, tags ---------------------------------------------------------------------------

    def metrics(self, values: Mapping[str, Any], step: Any = None) -> None:
        """Logs values at a step; by default, the step at which Lightning would log them now."""
        numbers: dict[str, float] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):  # as in TensorBoardLogger
                self.metrics({f"{name}/{key}": item for key, item in value.items()}, step)
                continue
            try:
                if isinstance(value, str):
                    raise TypeError
                numbers[str(name)] = float(value.detach() if hasattr(value, "detach") else value)
            except (TypeError, ValueError, RuntimeError):  # raised for a tensor of several elements
                self.once(f"metric {name} is not logged: a {type(value).__name__} is not one number")
        if not numbers or self.muted:
            return
        trainer = self.trainer
        if trainer is None:
            self._emit(Metrics(self.step(step), 0, numbers, 0, 0))
            return
        epoch, epochs = trainer.current_epoch, trainer.max_epochs
        if epochs is not None and epochs > 0:
            epoch = min(epoch, epochs - 1)  # in the test after the fit, Lightning's counter is one higher
        batch = trainer.fit_loop.total_batch_idx + 1
        self._emit(Metrics(self.step(step), epoch, numbers, trainer.global_step, batch))

    def step(self, step: Any = None) -> int:
        """The given step as an int, or else the step at which Lightning would log now."""
        with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
            return max(-LARGEST_STEP, min(LARGEST_STEP, int(step)))
        # Lightning has no public name for it; its own LearningRateMonitor also uses it.
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop._batches_that_stepped

    def params(self, values: Mapping[Any, Any], prefix: str = "") -> None:
        """Logs parameters, each only the first time: MLflow's parameters cannot change."""
        new: dict[str, str] = {}
        for name, value in _flat(values, prefix):
            text = as_text(value)
            if name not in self._params:
                new[name] = self._params[name] = text
            elif self._params[name] != text:
                self.once(f"parameter {name} keeps its first value")
        if new and not self.muted:
            self._emit(Params(new))

    def tags(self, values: Mapping[Any, Any]) -> None:
        if values and not self.muted:
            self._emit(Tags({as_text(name): as_text(value) for name, value in values.items()}))

    def once(self, text: str) -> None:
        """Logs a warning to the trial's log.txt, the first time only."""
        if text not in self._said:
            self._said.add(text)
            _log.warning("%s", text)

    def not_kept(self, call: str) -> None:
        self.once(f"{call} is not logged: MLflow has no equivalent")

    # -- files -----------------------------------------------------------------------------------------------

    def numbered(self, kind: str, tag: Any, step: Any, suffix: str) -> str:
        """Path of a new file: images/TAG/step_000123.png, or step_000123_2.png if that exists."""
        base = f"{kind}/{safe_path(tag)}/step_{self.step(step):06d}"
        name, count = f"{base}{suffix}", 1
        while name in self._files:
            count += 1
            name = f"{base}_{count}{suffix}"
        return name

    def file(self, path: str, write: Callable[[BinaryIO], Any], kind: str = "file") -> None:
        """Writes a file below artifacts/, atomically."""
        self._files.add(path)
        if self.muted:
            return
        target = self.artifacts / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        try:
            with open(temporary, "wb") as file:
                write(file)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self._emit(Artifact(path, kind))

    def text(self, path: str, text: Any) -> None:
        encoded = str(text).encode("utf-8", "backslashreplace")
        self.file(path, lambda file: file.write(encoded), "text")

    def json(self, path: str, value: Any) -> None:
        self.text(path, json.dumps(_strict(value), indent=1))

    def table(self, path: str, columns: Sequence[Any] | None, data: Iterable[Iterable[Any]] | None) -> None:
        """Writes a table in MLflow's format."""
        rows = [list(row) for row in data or ()]
        names = list(columns) if columns is not None else list(range(len(rows[0]) if rows else 0))
        self.json(path, {"columns": names, "data": rows})

    def append(self, path: str, columns: Mapping[str, list[Any]]) -> None:
        """Appends rows to a table, creating it if missing."""
        table: dict[str, Any] = {"columns": list(columns), "data": []}
        there = self.artifacts / path
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(there.read_text())
            table = {"columns": [*found["columns"]], "data": [*found["data"]]}
        names = list(dict.fromkeys([*table["columns"], *columns]))
        rows = [[*row, *[None] * (len(names) - len(row))] for row in table["data"]]
        empty = [None] * max(map(len, columns.values()), default=0)
        added = zip_longest(*(columns.get(name, empty) for name in names))
        self.table(path, names, [*rows, *added])

    def image(self, path: str, image: Any, dataformats: str | None = None) -> None:
        """Writes an image: an array, tensor, PIL image, matplotlib or plotly figure."""
        if hasattr(image, "savefig") or hasattr(image, "write_html"):
            self.figure(path, image)
            return
        picture = as_image(image, dataformats)
        form = PurePosixPath(path).suffix.lower().lstrip(".") or "png"
        form = {"jpg": "jpeg", "tif": "tiff"}.get(form, form)
        if form == "jpeg" and picture.mode not in ("L", "RGB"):
            picture = picture.convert("RGB")
        self.file(path, lambda file: picture.save(file, form), "image")

    def figure(self, path: str, figure: Any, **options: Any) -> None:
        """Writes a matplotlib figure, in the format of the path's suffix, or a plotly figure, as HTML."""
        suffix = PurePosixPath(path).suffix.lower()
        if hasattr(figure, "savefig"):
            form = suffix.lstrip(".") or "png"
            self.file(path, lambda file: figure.savefig(file, **{"format": form, **options}), "figure")
        elif hasattr(figure, "write_html"):
            page = path if suffix == ".html" else str(PurePosixPath(path).with_suffix(".html"))
            self.text(page, figure.to_html(**{"include_plotlyjs": "cdn", "auto_open": False, **options}))
        else:
            raise TypeError(f"a figure must be matplotlib's or plotly's, but got a {type(figure).__name__}")

    def histogram(self, path: str, title: str, values: Any, bins: Any) -> None:
        """Plots a histogram of the finite values."""
        numbers = as_numbers(values).astype(np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        if isinstance(bins, str) and bins not in ("auto", "fd", "doane", "scott", "stone", "rice", "sturges", "sqrt"):
            bins = 64  # "tensorflow" has thousands of bins
        elif isinstance(bins, str):
            bins = min(256, len(np.histogram_bin_edges(finite, bins)) - 1) if finite.size else 1
        counts, edges = np.histogram(finite, bins=bins)
        left = "" if finite.size == numbers.size else f", {numbers.size - finite.size} not finite"
        self._plot(path, f"{title}: {numbers.size} values{left}", lambda axes: axes.stairs(counts, edges, fill=True))

    def curve(self, path: str, title: str, across: Any, up: Any, labels: tuple[str, str]) -> None:
        def draw(axes: Any) -> None:
            axes.plot(across, up)
            axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

        self._plot(path, title, draw)

    def _plot(self, path: str, title: str, draw: Callable[[Any], Any]) -> None:
        from studies.plots import figure as figures  # matplotlib

        figure, axes = figures.new_figure(5, 2.6, left=0.8, bottom=0.6, right=0.3, top=0.5)
        draw(axes)
        figures.tidy(axes)
        figures.title(axes, figures.shorten(title, 60))
        picture = figures.image_of(figure)
        self.file(path, lambda file: picture.save(file, "png"), "histogram")

    def copy(self, source: Any, folder: Any = None) -> None:
        """Copies a file or folder, under its name, to a folder below artifacts/."""
        path = Path(source)
        if path.is_dir():
            self.copy_all(path, str(PurePosixPath(folder or "") / path.name))
            return
        with open(path, "rb") as file:
            self.file(
                artifact_path(PurePosixPath(folder or "") / path.name), lambda target: shutil.copyfileobj(file, target)
            )

    def copy_all(self, source: Any, folder: Any = None) -> None:
        """Copies the contents of a folder."""
        top = Path(source)
        if not top.is_dir():
            raise NotADirectoryError(f"there is no folder {source}")
        artifacts = self.artifacts.resolve()
        inside = top.resolve().is_relative_to(artifacts)
        for path in sorted(top.rglob("*")):
            # Do not copy earlier copies into themselves.
            if path.is_file() and (inside or not path.resolve().is_relative_to(artifacts)):
                self.copy(path, PurePosixPath(folder or "") / path.parent.relative_to(top).as_posix())

    def _emit(self, event: Event) -> None:
        if self.channel is not None:
            self.channel.emit(event)


def artifact_path(path: Any) -> str:
    """The path below artifacts/ for an artifact path from user code; never one of the harness's own files.

    Raises:
        ValueError: the path leaves artifacts/.
    """
    text = str(path)
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts or "\0" in text:
        raise ValueError(f"an artifact's path must be relative and stay among the run's artifacts, but got {text!r}")
    name = "/".join(parts).encode("utf-8", "backslashreplace").decode()
    return f"logged/{name}" if name in RESERVED or name.startswith(RESERVED_FOLDERS) else name


def safe_path(tag: Any) -> str:
    """Converts any text to a relative ASCII path; parts that had to be changed get a checksum of the text."""
    text = str(tag)
    checksum = hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:8]
    parts = []
    for part in text.split("/"):
        clean = re.sub(r"[^A-Za-z0-9_\-. ]", "_", part).strip(". ")[:80]
        # The folder of a tag a/step_1.png must not collide with a file of the tag a.
        taken = not clean or clean != part or clean.startswith("step_")
        parts.append(f"{clean}-{checksum}" if taken else clean)
    return "/".join(parts)


def as_text(value: Any) -> str:
    """Any value as text that a database accepts; its type's name if its __str__ fails."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text[:TEXT_LENGTH].encode("utf-8", "backslashreplace").decode()[:TEXT_LENGTH]


def close_figure(figure: Any) -> None:
    """Closes a figure in pyplot, which would keep it open, as TensorBoard's writer does."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)


def _flat(values: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{as_text(key)}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        elif hasattr(value, "__dict__") and type(value).__name__ in ("Namespace", "SimpleNamespace"):
            yield from _flat(vars(value), f"{name}.")
        else:
            yield name, value


def _strict(value: Any) -> Any:
    """Converts a value to JSON types; NaN, infinities and all other values become text."""
    if isinstance(value, Mapping):
        return {as_text(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_strict(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy or PyTorch
        return _strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else as_text(value)
