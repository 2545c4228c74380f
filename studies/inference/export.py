"""`harness export`: finds the model; a warm process writes and verifies a temporary file, which is then renamed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from studies.common.atomic_files import temporary_name
from studies.common.errors import WorkFailed
from studies.config.checks import one_of
from studies.inference.opened_model import opened
from studies.inference.trained_model import experiment_of

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
    temporary = None
    try:
        with opened(model, "export", trust) as found:
            name = experiment_of(found.trained, found.state_folder)
            path = Path(output or default_name(name, found.trained.run_id, format))
            _check(path)
            temporary = temporary_name(path)
            temporary.touch()
            mode = temporary.stat().st_mode
            phase = f"importing torch, then writing and verifying {path.name}"
            target = {"format": format, "path": str(temporary.absolute())}
            answer = found.call("studies.inference.export_worker:export", phase, **target)
            if "failed" in answer:
                raise WorkFailed(f"{model} could not be exported: {answer['failed']}")
            temporary.chmod(mode)  # safetensors creates files that only the owner can read
            if path.exists():
                raise ValueError(f"{path} was created in the meantime and is not overwritten")
            temporary.replace(path)
            return {"model": model, **found.described, "format": format, "path": str(path), **answer}
    except RuntimeError as error:
        raise WorkFailed(f"{model} could not be exported: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def default_name(experiment: str, run_id: str, format: str) -> str:
    """A file name in the current folder, whatever a database has for the name of an experiment."""
    name = re.sub(r"[^\w.-]", "_", experiment)
    return f"{name}-{run_id[:8]}.{format}"


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
