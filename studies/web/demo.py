"""`harness demo`: a page for drawing and typing, with live answers of trained models.

Inputs are handled as by `harness predict`: by a datamodule's `inputs` and a module's `answers`. The models are loaded
in this process, so an answer takes milliseconds.
"""

from __future__ import annotations

import io
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from studies.common.state_folder import StateFolder
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.inference.best_models import best_first
from studies.inference.trained_model import Trained, find
from studies.web.demo_server import DemoServer
from studies.web.local_server import Interrupted, choose_port, reachable, say, show, signals_raise, warn_if_open

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from torch import Tensor

DEFAULT_PORT = 8000
LARGEST = 1_000_000  # pixels of a drawing; the page's have at most 280 x 280. `harness predict` reads larger ones
TRAINS = {"drawing": "harness train mnist_speedrun", "word": "harness train reverse_gru"}
TAKES = {"drawing": "half a minute", "word": "about four minutes"}  # on two cores, with the imports


def demo(
    model: str | None,
    host: str,
    port: int | None,
    open_browser: bool,
    announce: Callable[[str, list[str]], None],
    trust: bool = False,
) -> int:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        model: as for predict; None: the best for drawings and the best for words.
        host: address to listen on.
        port: between 1 and 65535 inclusive; None: 8000, or a free one if that is taken.
        open_browser: also open the page in a browser, if there is a display.
        announce: called with the URL, once the server answers, and the models' run ids.
        trust: as for predict.

    Returns:
        The exit code: 0 after Ctrl-C or SIGTERM, the normal ending; 130 or 143 if the page was not up yet.

    Raises:
        ValueError: in one line: unknown model, it takes neither drawings nor words, or host or port cannot be used.
    """
    is_up = False
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such a drawing is refused
    try:
        with signals_raise(), tempfile.TemporaryDirectory(prefix="harness-demo-") as scratch:
            warn_if_open(host, "ask these models")
            port = choose_port(host, port, DEFAULT_PORT)
            with DemoServer(host, port) as server:
                with Display(title="demo", metric=None, direction="maximize", total=1) as display:
                    panels = open_panels(model, StateFolder.find(), Path(scratch), display, trust)
                server.panels = list(panels)
                server.missing = missing(panels) if model is None else []
                for item in server.missing:
                    say(f"no model takes a {item['kind']} yet: `{item['command']}` trains one in {item['takes']}")
                run_ids = [panel.run_id for panel in panels]
                is_up = True
                try:
                    show(f"http://{reachable(host)}:{port}/", lambda url: announce(url, run_ids), open_browser)
                    say("the page is up: press Ctrl-C to stop")
                    server.serve_forever()
                finally:
                    for panel in panels:
                        panel.close()
        return 0
    except Interrupted as interrupt:
        say("the page is closed" if is_up else "interrupted")
        return 0 if is_up else 128 + interrupt.signum


def open_panels(
    model: str | None, state_folder: StateFolder, scratch: Path, display: Display, trust: bool = False
) -> list[ModelPanel]:
    """Loads the models to show; see `demo`."""
    display.phase("importing torch")
    from studies.inference.predict_worker import in_a_line

    if model is not None:
        trained = find(model, state_folder, scratch, trust)
        display.phase(f"reading run {trained.run_id[:12]}")
        try:
            panel = ModelPanel.of(trained, scratch)
        except Exception as error:
            raise ValueError(in_a_line(error)) from error
        if panel is None:
            raise ValueError(
                f"{model} takes neither drawings nor words, so there is nothing to draw or type: "
                f"use `harness predict {model} INPUT`"
            )
        return [panel]
    panels: dict[str, ModelPanel] = {}
    passed_over: set[str] = set()  # datamodule classes whose kind is no longer needed
    for candidate in best_first(state_folder):
        if len(panels) == len(TRAINS):
            break
        if candidate.data in passed_over:
            continue
        display.phase(f"reading run {candidate.run_id[:12]}")
        try:
            panel = ModelPanel.of(candidate.open(trust), scratch, candidate.why())
        except Exception as error:
            display.say(f"run {candidate.run_id[:12]} cannot be used, trying the next best: {in_a_line(error)}")
            continue
        passed_over.add(candidate.data)
        if panel is not None and panel.kind not in panels:
            panels[panel.kind] = panel
            display.say(f"{panel.kind}: {panel.title}, run {panel.run_id[:12]}{', ' * bool(panel.why)}{panel.why}")
    if not panels:
        commands = " or ".join(f"`{command}`" for command in TRAINS.values())
        raise ValueError(f"no model in {state_folder.folder} takes drawings or words: train one with {commands}")
    return [panels[kind] for kind in TRAINS if kind in panels]


def missing(panels: list[ModelPanel]) -> list[dict[str, str]]:
    """The kinds without a model: `kind`, `command`, which trains one, and how long that `takes`."""
    absent = [kind for kind in TRAINS if kind not in {panel.kind for panel in panels}]
    return [{"kind": kind, "command": TRAINS[kind], "takes": TAKES[kind]} for kind in absent]


def kind_of(sizes: dict[str, Any]) -> str | None:
    """The kind of input, inferred from the data's sizes: "drawing", "word" or None."""
    if sizes.get("image_shape"):
        return "drawing"
    return "word" if {"vocab_size", "characters"} & set(sizes) else None


class ModelPanel:
    """A trained model that many threads query, with one drawing or word at a time.

    Args:
        kind: "drawing" or "word".
        title: class names of model and data.
        run_id: the run that trained it.
        sizes: data-derived arguments; the page needs the image shape and any class names.
        module: the model.
        datamodule: its data.
        scratch: an empty folder for uploaded drawings.
        why: what the model was chosen for, or "".
    """

    def __init__(
        self,
        kind: str,
        title: str,
        run_id: str,
        sizes: dict[str, Any],
        module: LightningModule,
        datamodule: LightningDataModule,
        scratch: Path,
        why: str = "",
    ) -> None:
        self.kind, self.title, self.run_id, self.sizes, self.why = kind, title, run_id, sizes, why
        self._module, self._datamodule = module, datamodule
        self._drawing = scratch / "drawing.png"
        self._lock = threading.Lock()

    @classmethod
    def of(cls, trained: Trained, scratch: Path, why: str = "") -> ModelPanel | None:
        """The panel of a trained model, or None if it takes neither drawings nor words."""
        from studies.inference.predict_worker import check, restore

        experiment = trained.experiment
        payload = {"experiment": dump_yaml(experiment), "seed": trained.seed, "checkpoint": str(trained.checkpoint)}
        payload |= {"search_path": trained.search_path, "trusted": trained.trusted}
        module, datamodule = restore(payload)
        sizes = {**module.hparams, **getattr(datamodule, "sizes", {})}
        kind = kind_of(sizes)
        if kind is None:
            return None
        check(module, datamodule)
        title = f"{type(module).__name__} on {type(datamodule).__name__}"
        return cls(kind, title, trained.run_id, sizes, module, datamodule, scratch, why)

    def describe(self) -> dict[str, Any]:
        """The data that the page needs to draw the panel."""
        wanted = {name: self.sizes.get(name) for name in ("image_shape", "class_names", "max_length")}
        return {"kind": self.kind, "title": self.title, "run_id": self.run_id, "why": self.why, **wanted}

    def close(self) -> None:
        """Waits for the last answer and allows no more: Python must not exit while a thread computes."""
        self._lock.acquire()

    def ask(self, content: bytes) -> dict[str, Any]:
        """The answer of `harness predict --json` to one input, with `seen` for a drawing; or a one-line `error`."""
        from studies.inference.predict_worker import ask, in_a_line

        if self.kind == "drawing" and (refusal := why_refused(content)):
            return {"error": refusal}
        try:
            with self._lock:
                if self.kind == "word":
                    return ask(self._module, self._datamodule, [content.decode()])[1][0]
                self._drawing.write_bytes(content)
                batch, (answer,) = ask(self._module, self._datamodule, [str(self._drawing)])
                return {**answer, "input": "the drawing", "seen": seen(batch[0])}
        except Exception as error:
            return {"error": in_a_line(error).replace(str(self._drawing), "the drawing")}


def why_refused(content: bytes) -> str:
    """Why an image is not decoded, by its header: it might take seconds, for which other visitors wait. "" if it is."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            form = image.format
    except Image.DecompressionBombError as error:
        return f"the drawing is too large: {error}"
    except Exception:  # no image: the datamodule says so
        return ""
    if form != "PNG":  # a JPEG may have thousands of passes
        return f"the drawing must be a PNG, as from the page, but is a {form}: `harness predict` reads other formats"
    too_large = f"the drawing is too large: {width}x{height} pixels, at most {LARGEST} are read"
    return too_large if width * height > LARGEST else ""


def seen(image: Tensor) -> dict[str, Any]:
    """The model's input image (channels, height, width) as grey `pixels`, 0 to 255, in row-major order."""
    grey = image.float().mean(dim=0)
    grey = (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=1e-6) * 255
    height, width = grey.shape
    return {"width": width, "height": height, "pixels": grey.round().int().flatten().tolist()}
