"""Completion, as shells ask for it, and by the Tab key of real shells."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.cli import known_names
from studies.common.state_folder import StateFolder
from studies.common.trust import remember
from studies.config.search_space import parse_space
from studies.driver import resume
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search

BIN = Path(sys.executable).parent
RUN = "0123456789abcdef0123456789abcdef"
SPACE = {"model.learning_rate": {"low": 0.1, "high": 1.0}}


@pytest.fixture
def state(empty_home: Path, toy: Path) -> StateFolder:
    """A state folder with studies of a plain and a strange name, a trial of toy.yaml, and a folder that is no run."""
    empty_home.mkdir()
    state = StateFolder.find()
    definition = {"space": SPACE, "metric": "val/loss", "direction": "minimize", "seed": 0}
    for name in ("toys", "$(touch canary)"):
        Search(state.storage, name, definition, parse_space(SPACE), "random", "none", None)
    experiment = {"model": {"class_path": "toy.Toy", "init_args": {}}, "data": None, "trainer": {}}
    folder = str(state.trial_folder(RUN))
    TrialSpec(RUN, experiment, 0, folder, "toy", "toys", 3, search_path=[str(toy.parent)]).save()
    (state.folder / "trials" / "`touch canary`").mkdir()
    remember(state.folder)
    return state


def ask(line: str) -> list[str]:
    """What completes the last word of a line, as the scripts ask for it."""
    reader, writer = os.pipe()
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    command = ["bash", "-c", f'exec 8>&{writer}; exec "$0"', str(BIN / "harness")]
    subprocess.run(
        command, env={**os.environ, **asked}, pass_fds=[writer], check=True, stdin=subprocess.DEVNULL, timeout=60
    )
    os.close(writer)
    with open(reader) as answer:
        return [word.rstrip() for word in answer.read().split("\n") if word]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tra", ["train"]),
        ("train mnist_seg", ["mnist_segmentation"]),
        ("train ./mi", ["./mine/"]),
        ("train mine/", ["mine/images.yaml", "mine/toy.yaml", "mine/workers.yaml", "mine/chatty.yaml"]),
        ("train mnist_mlp --model.le", ["--model.learning_rate"]),
        ("lr mnist_mlp --model.le", ["--model.learning_rate"]),
        ("batch-size mine/t", ["mine/toy.yaml"]),
        ("describe mnist_seg", ["mnist_segmentation"]),
        ("schema ex", ["export", "extend"]),
        ("train mnist_mlp --model.learning_rate 0.1 --trainer.max_e", ["--trainer.max_epochs"]),
        ("train mine/toy.yaml --model.se", ["--model.seconds"]),
        ("study mnist_mlp --data.b", ["--data.batch_size"]),
        ("study mnist_mlp --trai", ["--trainer."]),
        ("study mnist_mlp --sampler t", ["tpe"]),
        ("train --from latest --model.se", ["--model.seconds"]),
        ("train --from best:toys --model.se", ["--model.seconds"]),
        ("train --from toys/3 --model.se", ["--model.seconds"]),
        (f"train --from {RUN[:6]} --model.se", ["--model.seconds"]),
        ("train --from absent --model.se", []),
        ("resume latest --trainer.max_e", ["--trainer.max_epochs"]),
        ("watch ", ["toys"]),
        ("extend toys --ep", ["--epochs"]),
        ("compare ", ["latest", "best:toys", RUN[:8]]),
        ("compare best:t", ["best:toys"]),
        ("predict la", ["latest"]),
        ("predict latest mine/to", ["mine/toy.py", "mine/toy.yaml"]),
        ("delete t", ["toys"]),
        ("runs --limit ", []),
        ("export latest --format o", ["onnx"]),
        ("completion z", ["zsh"]),
    ],
)
def test_the_last_word_is_completed(state: StateFolder, line: str, words: list[str]) -> None:
    found = ask(f"harness {line}")
    if words == ["--trainer."]:
        assert len(found) > 30 and all(word.startswith("--trainer.") for word in found)
    else:
        assert sorted(found) == sorted(words)


def test_what_resume_may_change_is_suggested() -> None:
    assert known_names.LIMITS == resume.LIMITS


def test_nothing_heavy_is_imported(state: StateFolder) -> None:
    code = (
        "import sys; from studies.cli import known_names as known\n"
        "assert known.parameters(['train', 'mnist_mlp']) and known.runs() and known.studies() and known.experiments()\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'pytorch_lightning', 'numpy', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_code_folders_of_somebody_elses_run_are_not_looked_into(state: StateFolder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(state.folder, copy)
    os.environ["HARNESS_HOME"], mine = str(copy), os.environ["HARNESS_HOME"]
    try:
        assert ask("harness train --from latest --model.") == []
        assert ask("harness train --from latest --trainer.max_e") == ["--trainer.max_epochs"]
    finally:
        os.environ["HARNESS_HOME"] = mine


def test_a_state_folder_of_rubbish_suggests_nothing(empty_home: Path) -> None:
    folder = empty_home / "trials" / RUN
    folder.mkdir(parents=True)
    (empty_home / "optuna.db").write_text("rubbish")
    os.mkfifo(empty_home / "mlflow.db")
    for content in ("[]", "{", json.dumps({"experiment": 3, "search_path": 4})):
        (folder / "spec.json").write_text(content)
        assert ask("harness compare ") == ["latest", RUN[:8]]
        assert ask("harness train --from latest --model.") == []


class Shell:
    """A shell at a terminal."""

    def __init__(self, command: list[str], folder: Path) -> None:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TERM": "dumb", "HOME": str(folder), "PS1": "> "}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, text: str, seconds: float = 60) -> None:
        """Waits until a text is shown."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.seen += os.read(self.terminal, 10_000).decode(errors="replace")

    def end(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, state: StateFolder) -> Iterator[Shell]:
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    setup = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], ""),
        "zsh": (["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste; autoload -Uz compinit && compinit -u; "),
    }
    command, first = setup[name]
    shell = Shell(command, tmp_path)
    shell.send(f'{first}eval "$(harness completion {name})"; echo re""ady\n')
    shell.until("ready")
    yield shell
    shell.end()


@pytest.mark.parametrize(
    "keys",
    [
        [("harness tra\t", "in "), ("mnist_seg\t", "mentation "), ("--model.learning_r\t", "ate "), ("0.1", "0.1")],
        [("harness compare best:to\t", "ys"), (" lat\t", "est")],
        [("harness watch to\t", "ys")],
    ],
)
def test_the_tab_key(shell: Shell, keys: list[tuple[str, str]]) -> None:
    for typed, shown in keys:
        shell.seen = ""
        shell.send(typed)
        if typed.endswith("\t"):
            shell.until(shown)
    whole = "".join(typed.rstrip("\t") + (shown if typed.endswith("\t") else "") for typed, shown in keys)
    shell.seen = ""
    shell.send("\x01echo to''ld \n")  # at the beginning of the line
    shell.until(f"told {whole}".rstrip())


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(state: StateFolder) -> None:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    script = "harness completion fish | source; complete -C 'harness train mnist_mlp --model.learning_r'; "
    script += "complete -C 'harness compare '"
    ended = subprocess.run(["fish", "--no-config", "-c", script], env=environment, capture_output=True, text=True)
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    assert {line[0] for line in lines} == {"--model.learning_rate", "latest", "best:toys", RUN[:8]}
    assert [RUN[:8], "toy trial 3 of toys"] in lines
