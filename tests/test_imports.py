"""Who may import whom (docs/architecture.md), as a test: every import statement of every file is walked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for folder in ("studies", "lightning_modules", "datamodules") for path in (ROOT / folder).rglob("*.py")
)
OURS = {"studies", "lightning_modules", "datamodules"}


def imports_of(path: Path) -> set[str]:
    """Dotted names of all that a file imports, anywhere in it; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def ours(path: Path) -> set[str]:
    """Names of the files in studies/ that a file imports."""
    known = {str(file.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__") for file in FILES}
    return {name.removeprefix("studies.") for name in imports_of(path) & known if name.startswith("studies.")}


@pytest.mark.parametrize(("library", "room"), [("mlflow", "tracking.py"), ("optuna", "search")])
def test_one_room_each(library: str, room: str) -> None:
    users = [path.relative_to(ROOT / "studies") for path in FILES if library in tops(path)]
    assert {path.parts[0] for path in users} == {room}


@pytest.mark.parametrize("folder", ["lightning_modules", "datamodules"])
def test_modules_and_datamodules_can_be_lifted_into_a_notebook(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        others = {"studies", "mlflow", "optuna", *OURS} - {folder}
        assert not tops(path) & others, path


GROUND = ["messages", "event_log", "link", "locks", "nearest", "space", "views", "home", "temporary", "trouble"]
GROUND += ["databases", "checkpoint_files", "allocator", "artifact_files", "metric_names", "moved", "relocation"]
GROUND += ["search_path", "strict_json", "provenance", "sources", "lightning_alias", "executors/orphans", "plain"]


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_floor_is_standard_library(name: str) -> None:
    path = ROOT / "studies" / f"{name}.py"
    assert tops(path) <= {*sys.stdlib_module_names, "studies"}
    assert ours(path) <= {
        "messages",
        "event_log",
        "nearest",
        "locks",
        "temporary",
        "moved",
        "databases",
        "metric_names",
    }


ALLOWED = {
    "memory": {"messages"},
    "checkpoints": {"checkpoint_files", "link", "messages", "temporary"},
    "callbacks": {"checkpoints", "link", "logger", "messages"},
    "schedules": {"link", "messages"},
    "class_paths": {"nearest"},
    "arguments": {"class_paths", "experiment", "nearest", "parsed_again", "plain"},
    "parsed_again": set(),
    "experiment": {"nearest", "space", "yaml_io"},
    "yaml_io": set(),
    "logger": {"arguments", "link", "logged", "logged_images", "nearest"},
    "logged": {"figures", "link", "logged_images", "messages", "temporary"},
    "logged_images": set(),
    "components": {"arguments", "class_paths"},
    "fast_loop": {"fast_step", "replay"},
    "replay": {"fast_step", "program"},
    "program": set(),
    "fast_step": set(),
    "stack": set(),
    "stack_optimizer": {"fast_step", "stack"},
    "stack_steps": {"program", "replay", "stack", "stack_optimizer"},
    "pack": {"fast_loop", "link", "messages", "stack", "stack_optimizer", "stack_steps", "trial"},
    "trial": {
        *(
            "allocator",
            "components",
            "callbacks",
            "checkpoints",
            "event_log",
            "fast_loop",
            "figures",
            "lightning_alias",
            "link",
            "logger",
            "memory",
            "messages",
        ),
        *("class_paths", "pictures", "plain", "schedules", "search_path", "trouble"),
    },
    "search.samplers": {"search.tpe", "space"},
    "search.density": set(),
    "search.tpe": {"search.density"},
    "search.rows": set(),
    "search.storage": {"databases", "journals", "search.rows", "trouble"},
    "search.search": {"nearest", "search.samplers", "search.storage", "sources", "space"},
    "artifact_files": {"temporary"},
    "journals": set(),
    "one_transaction": set(),
    "tracking": {
        *("artifact_files", "databases", "journals", "messages", "metric_names", "nearest", "one_transaction"),
        *("relocation", "trouble"),
    },
    "tracking_queue": {"tracking", "trouble"},
    "executors.packs": {"messages"},
    "executors.local": {"executors", "executors.orphans", "executors.packs", "executors.processes", "link", "messages"},
    "executors.processes": {
        "event_log",
        "executors",
        "executors.orphans",
        "executors.slate",
        "link",
        "messages",
        "pack",
        "plain",
        "trial",
    },
    "executors.slate": {"allocator", "link", "messages"},
    "executors.inline": {"event_log", "executors.local", "lightning_alias", "link", "messages", "trial"},
    "record": {"checkpoint_files", "event_log", "messages", "metric_names", "temporary", "tracking_queue"},
    "loop": {"checkpoint_files", "executors.local", "memory", "messages", "record", "tracking_queue", "trouble"},
    "palette": set(),
    "panels": set(),
    "figures": {"palette", "panels", "temporary"},
    "plots": {"figures", "palette", "panels"},
    "task_plots": {"figures", "palette"},
    "canvas_plots": {"figures", "palette"},
    "pictures": {"canvas_plots", "nearest", "plots", "task_plots"},
    "study_plots": {"figures", "palette"},
    "trained": {"checkpoint_files", "home", "messages", "tracking", "yaml_io"},
    "asking": {"display", "executors.local", "home", "trained", "yaml_io"},
    "prediction": {"components", "search_path", "trial", "yaml_io"},
    "exporting": {"display", "executors.local", "experiment", "home", "temporary", "trained", "trouble", "yaml_io"},
    "export": {"class_paths", "examples", "formats", "prediction", "yaml_io"},
    "formats": {"arguments", "examples"},
    "examples": set(),
    "serving": set(),
    "ui": {"serving"},
    "demo_server": {"serving"},
    "demo": {"demo_server", "display", "home", "prediction", "serving", "trained", "yaml_io"},
    "tables": set(),
    "display": {"tables"},
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_direction_of_imports(name: str) -> None:
    path = ROOT / "studies" / (name.replace(".", "/") + ".py")
    assert ours(path) <= ALLOWED[name]


def test_nobody_imports_the_command_line() -> None:
    # The warm server does: its children import their parent's main script, and that is the command.
    assert [path.stem for path in FILES if "cli" in ours(path)] == ["preload"]


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["study", "--help"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from studies.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'pytorch_lightning', 'matplotlib', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=ROOT)


def test_the_driver_never_imports_torch() -> None:
    code = (
        "import sys, studies.driver, studies.study, studies.report, studies.tracking; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
