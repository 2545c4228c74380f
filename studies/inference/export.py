"""`harness export`: finds the model; a warm process writes and verifies a temporary file, which is then renamed."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from studies.common.atomic_files import temporary_name
from studies.common.errors import WorkFailed
from studies.common.state_folder import StateFolder
from studies.config.checks import one_of
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.inference.trained_model import experiment_of, find

LIBRARIES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "safetensors": ("safetensors",)}


def export(model: str, format: str, output: str | None, trust: bool = False) -> dict[str, Any]:
    """Writes a model to a new file.

    Returns:
        `model`, `run_id`, `checkpoint`, `format`, `path`, and the result of export_worker.export.

    Raises:
        ValueError: in one line: unknown model or format, missing library, or the file cannot be written.
        WorkFailed: in one line: the module cannot be exported, or the file's outputs differ.
    """
    one_of("format", format, tuple(LIBRARIES))
    missing = [name for name in LIBRARIES[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'format {format} needs {", ".join(missing)}: pip install "studies-harness[export]"')
    if output is not None:
        _check(Path(output))
    from studies.executors.local import LocalExecutor

    with tempfile.TemporaryDirectory(prefix="harness-export-") as scratch:
        executor = LocalExecutor()
        executor.warm()
        temporary = None
        try:
            state_folder = StateFolder.find()
            trained = find(model, state_folder, Path(scratch), trust)
            path = Path(output or f"{experiment_of(trained, state_folder)}-{trained.run_id[:8]}.{format}")
            _check(path)
            temporary = temporary_name(path)
            temporary.touch()
            mode = temporary.stat().st_mode
            with Display(title=f"export {model}", metric=None, direction="maximize", total=1) as display:
                display.phase(f"importing torch, then writing and verifying {path.name}")
                payload = {
                    "experiment": dump_yaml(trained.experiment),
                    "seed": trained.seed,
                    "checkpoint": str(trained.checkpoint),
                    "search_path": trained.search_path,
                    "trusted": trained.trusted,
                    "format": format,
                    "path": str(temporary.absolute()),
                }
                answer = executor.call("studies.inference.export_worker:export", payload, display.refresh)
            if "error" in answer:
                raise ValueError(answer["error"])
            if "failed" in answer:
                raise WorkFailed(f"{model} could not be exported: {answer['failed']}")
            temporary.chmod(mode)  # safetensors creates files that only the owner may read
            if path.exists():
                raise ValueError(f"{path} was created in the meantime and is not overwritten")
            temporary.replace(path)
        except RuntimeError as error:
            raise WorkFailed(f"{model} could not be exported: {error}") from error
        finally:
            executor.close()
            if temporary is not None:
                temporary.unlink(missing_ok=True)
    found = {"model": model, "run_id": trained.run_id, "checkpoint": str(trained.checkpoint)}
    return {**found, "format": format, "path": str(path), **answer}


def _check(path: Path) -> None:
    """Checks that the file does not exist yet and can be created, by creating it."""
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: --output must name a file")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} to write {path.name} in")
        if path.exists() or path.is_symlink():
            raise ValueError(f"{path} already exists: choose another --output, or remove it first")
        temporary_name(path).touch()
        temporary_name(path).unlink()
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
