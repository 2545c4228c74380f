"""`harness demo`: a page for drawing and typing, with live answers of trained models.

Inputs are handled as by `harness predict`: by a datamodule's `inputs` and a module's `answers`. The models are loaded
in this process, so an answer takes milliseconds.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.common.state_folder import StateFolder
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.inference.trained_model import Trained, find, newest_first
from studies.web.demo_server import DemoServer
from studies.web.local_server import Interrupted, choose_port, reachable, say, show, signals_raise, warn_if_open

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule
    from torch import Tensor

DEFAULT_PORT = 8000
TRAINS = {"drawing": "harness train mnist_speedrun", "word": "harness train reverse_gru"}


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
        model: as for predict; None: the newest for drawings and the newest for words.
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
    try:
        with signals_raise(), tempfile.TemporaryDirectory(prefix="harness-demo-") as scratch:
            warn_if_open(host, "ask these models")
            port = choose_port(host, port, DEFAULT_PORT)
            with DemoServer(host, port) as server:
                with Display(title="demo", metric=None, direction="maximize", total=1) as display:
                    panels = open_panels(model, StateFolder.find(), Path(scratch), display, trust)
                server.panels = list(panels)
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
    for trained in newest_first(state_folder, trust):
        if len(panels) == len(TRAINS):
            break
        data = trained.experiment["data"]["class_path"]
        if data in passed_over:
            continue
        display.phase(f"reading run {trained.run_id[:12]}")
        try:
            panel = ModelPanel.of(trained, scratch)
        except Exception as error:
            display.say(f"run {trained.run_id[:12]} cannot be used, trying an older one: {in_a_line(error)}")
            continue
        passed_over.add(data)
        if panel is not None:
            panels.setdefault(panel.kind, panel)
    if not panels:
        commands = " or ".join(f"`{command}`" for command in TRAINS.values())
        raise ValueError(f"no model in {state_folder.folder} takes drawings or words: train one with {commands}")
    return [panels[kind] for kind in TRAINS if kind in panels]


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
    ) -> None:
        self.kind, self.title, self.run_id, self.sizes = kind, title, run_id, sizes
        self._module, self._datamodule = module, datamodule
        self._drawing = scratch / "drawing.png"
        self._lock = threading.Lock()

    @classmethod
    def of(cls, trained: Trained, scratch: Path) -> ModelPanel | None:
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
        return cls(kind, title, trained.run_id, sizes, module, datamodule, scratch)

    def describe(self) -> dict[str, Any]:
        """The data that the page needs to draw the panel."""
        wanted = {name: self.sizes.get(name) for name in ("image_shape", "class_names", "max_length")}
        return {"kind": self.kind, "title": self.title, "run_id": self.run_id, **wanted}

    def close(self) -> None:
        """Waits for the last answer and allows no more: Python must not exit while a thread computes."""
        self._lock.acquire()

    def ask(self, content: bytes) -> dict[str, Any]:
        """The answer of `harness predict --json` to one input, with `seen` for a drawing; or a one-line `error`."""
        from studies.inference.predict_worker import ask, in_a_line

        try:
            with self._lock:
                if self.kind == "word":
                    return ask(self._module, self._datamodule, [content.decode()])[1][0]
                self._drawing.write_bytes(content)
                batch, (answer,) = ask(self._module, self._datamodule, [str(self._drawing)])
                return {**answer, "input": "the drawing", "seen": seen(batch[0])}
        except Exception as error:
            return {"error": in_a_line(error).replace(str(self._drawing), "the drawing")}


def seen(image: Tensor) -> dict[str, Any]:
    """The model's input image (channels, height, width) as grey `pixels`, 0 to 255, in row-major order."""
    grey = image.float().mean(dim=0)
    grey = (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=1e-6) * 255
    height, width = grey.shape
    return {"width": width, "height": height, "pixels": grey.round().int().flatten().tolist()}
