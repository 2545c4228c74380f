"""`harness mcp`, driven by the official SDK's own client over stdio."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client, types
from process_helpers import HARNESS, TOY, Workspace
from schemas import check

READING = {"list_experiments", "describe_experiment", "runs", "compare", "jobs", "status"}
TRAINING = {"train", "study", "stop"}
pytestmark = pytest.mark.slow


@asynccontextmanager
async def connected(workspace: Workspace, *arguments: str) -> AsyncIterator[ClientSession]:
    environment = {**workspace.environment, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
    server = StdioServerParameters(
        command=HARNESS, args=["mcp", *arguments], env=environment, cwd=str(workspace.folder)
    )
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


async def call(session: ClientSession, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's answer, which the client has checked against the schema that the server declares."""
    result = await session.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    (content,) = result.content
    assert isinstance(content, types.TextContent) and json.loads(content.text) == result.structured_content
    return result.structured_content


async def refusal(session: ClientSession, tool: str, **arguments: Any) -> str:
    result = await session.call_tool(tool, arguments)
    (content,) = result.content
    assert result.is_error and isinstance(content, types.TextContent) and "\n" not in content.text
    return content.text


async def ended(session: ClientSession, job: str) -> dict[str, Any]:
    with anyio.fail_after(300):
        while True:
            status = await call(session, "status", job=job)
            check("job", status)
            if status["state"] == "ended":
                return status
            await anyio.sleep(0.2)


def test_an_agent_reads_trains_and_searches(tmp_path: Path) -> None:
    async def session() -> None:
        here = Workspace(tmp_path)
        async with connected(here, "--allow-training") as agent:
            listed = await agent.list_tools()
            assert {tool.name for tool in listed.tools} == READING | TRAINING
            assert {
                tool.name for tool in listed.tools if tool.annotations and tool.annotations.read_only_hint
            } == READING
            assert "one_neuron" in {item["name"] for item in (await call(agent, "list_experiments"))["experiments"]}
            about = await call(agent, "describe_experiment", experiment=TOY)
            check("describe", about)
            assert "model.learning_rate" in about["space"]
            assert "model.width" in {parameter["name"] for parameter in about["parameters"]}

            overrides = {"model.learning_rate": 0.05, "trainer.max_epochs": 2}
            job = await call(agent, "train", experiment=TOY, overrides=overrides, name="by an agent", test=False)
            trained = (await ended(agent, job["job"]))["answer"]
            check("train", trained)
            study = await call(agent, "study", experiment=TOY, trials=2, timeout=200, study_name="asked")
            studied = (await ended(agent, study["job"]))["answer"]
            check("study", studied)
            assert len(studied["trials"]) == 2

            (run,) = (await call(agent, "runs", where="attributes.run_name = 'by an agent'"))["runs"]
            assert run["run_id"] == trained["run_id"] and run["params"]["model.learning_rate"] == "0.05"
            compared = await call(agent, "compare", runs=[trained["run_id"], "best:asked"])
            assert [item["run_id"] for item in compared["runs"]] == [trained["run_id"], studied["best"]["run_id"]]

            misspelt = await call(agent, "train", experiment=TOY, overrides={"model.learning_rat": 1})
            answer = (await ended(agent, misspelt["job"]))["answer"]
            assert "learning_rate" in answer["hint"]

            slow = await call(agent, "train", experiment=TOY, overrides={"model.seconds": 1, "trainer.max_epochs": 99})
        async with connected(here, "--allow-training") as agent:  # another server knows the job, which goes on
            assert {item["job"] for item in (await call(agent, "jobs"))["jobs"]} >= {slow["job"], job["job"]}
            with anyio.fail_after(200):
                while not any("epoch" in line for line in (await call(agent, "status", job=slow["job"]))["log"]):
                    await anyio.sleep(0.2)
            await call(agent, "stop", job=slow["job"])
            stopped = await ended(agent, slow["job"])
            assert stopped["answer"]["status"] == "interrupted"
        assert here.is_empty()

    anyio.run(session)


def test_a_server_only_reads_unless_it_is_told(tmp_path: Path) -> None:
    async def session() -> None:
        async with connected(Workspace(tmp_path)) as agent:
            assert {tool.name for tool in (await agent.list_tools()).tools} == READING
            for tool, arguments in {
                "train": {"experiment": TOY},
                "study": {"experiment": TOY, "trials": 1, "timeout": 9},
                "stop": {"job": "aa"},
            }.items():
                assert "--allow-training" in await refusal(agent, tool, **arguments)
        assert list(tmp_path.iterdir()) == []

    anyio.run(session)


def test_bad_input_is_the_commands_own_line(tmp_path: Path) -> None:
    async def session() -> None:
        async with connected(Workspace(tmp_path), "--allow-training") as agent:
            _, answer, err = Workspace(tmp_path).run("train", "mnist_mpl")
            assert f"harness: {await refusal(agent, 'train', experiment='mnist_mpl')}\n" == err
            assert "mnist_mlp" in answer["hint"]
            assert "no runs yet" in await refusal(agent, "runs")
            assert "did you mean trials?" in await refusal(agent, "study", experiment=TOY, trails=3, timeout=5)
            assert "study needs timeout" in await refusal(agent, "study", experiment=TOY, trials=3)
            assert "type integer" in await refusal(agent, "study", experiment=TOY, trials="3", timeout=5)
            assert "overrides: model" in await refusal(agent, "train", experiment=TOY, overrides={"model rate": 1})
            assert "must be a name" in await refusal(agent, "describe_experiment", experiment="--help")
            assert "unknown job abc" in await refusal(agent, "status", job="abc")
            assert "did you mean runs?" in await refusal(agent, "run")
            assert (await call(agent, "jobs"))["jobs"] == []
        assert not (tmp_path / "mlruns").exists()

    anyio.run(session)


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; from studies.cli.main import main; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'mcp' else find(name, *rest)\n"
        "sys.exit(main(['mcp']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == 'harness: mcp needs the package mcp: pip install "studies-harness[mcp]"\n'


def test_nothing_but_the_protocol_is_on_stdout(tmp_path: Path) -> None:
    """Even of an experiment whose code prints when it is imported."""
    (tmp_path / "loud.py").write_text("print('hello'); from pytorch_lightning import LightningModule as Net")
    (tmp_path / "loud.yaml").write_text("model: {class_path: loud.Net}")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    asked = {"name": "describe_experiment", "arguments": {"experiment": "loud.yaml"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked},
    ]
    server = subprocess.Popen([HARNESS, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
    server.stdin.flush()
    answers = [json.loads(server.stdout.readline()) for _ in range(2)]
    server.stdin.close()
    assert server.wait(30) == 0 and server.stdout.read() == ""
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["result"]["serverInfo"]["name"] == "harness"
    assert answers[1]["result"]["structuredContent"]["model"] == "loud.Net"


def test_ctrl_c_ends_it_though_it_waits_for_a_line(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    server = subprocess.Popen([HARNESS, "mcp"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None and "an agent starts this command" in server.stderr.readline()
    time.sleep(2)  # until it listens; before that, Ctrl-C ends it anyway
    server.send_signal(signal.SIGINT)
    assert server.wait(30) in (-signal.SIGINT, 130)
    os.close(terminal)
    os.close(theirs)
