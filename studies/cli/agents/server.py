"""`harness mcp`: a server of the Model Context Protocol on stdin and stdout, for agents.

Reading tools run the command that they are named for and return its answer; train and study start it as a job, so that
every call returns within seconds. The SDK keeps stdout for the protocol: what else is printed there goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from studies.cli import schema
from studies.cli.agents import tools
from studies.cli.agents.jobs import HARNESS, Jobs
from studies.common.strict_json import json_line
from studies.common.text import visible

WAIT = 3.0  # seconds after which a command that has found nothing wrong is left to run in the background
PATIENCE = 120.0  # seconds for a command that reads
INSTRUCTIONS = (
    "Trains PyTorch Lightning modules, searches their hyperparameters and shows the results. Begin with "
    "list_experiments and describe_experiment. train and study return a job: poll it with status every few seconds or "
    "minutes. Compare results by runs and compare; a trial is named STUDY/NUMBER, the best one best:STUDY."
)


class Refused(Exception):
    """A command's one-line error."""


def serve(training: bool, jobs: Jobs, version: str) -> None:
    """Serves until stdin is closed.

    Args:
        training: whether tools may start and stop work.
    """

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[described(tool) for tool in tools.TOOLS if training or not tool.trains])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            tool = tools.find_tool(params.name, training)
            answer = await _answer(tool, tools.checked(tool, params.arguments), jobs)
        except (ValueError, OSError, Refused) as error:
            text = visible(" ".join(str(error).split()))
            return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
        strict = json.loads(json_line(answer))
        text = json.dumps(strict)
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=strict)

    server: Server[Any] = Server(
        "harness",
        version=version,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )

    async def run() -> None:
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python would wait for a thread that waits for the next line
    anyio.run(run)


def described(tool: tools.Tool) -> types.Tool:
    """A tool as clients see it. Its output's schema is the published one, without errors: they are tool errors."""
    whole = schema.load(tool.answer)
    output = {"type": "object", "$ref": "#/$defs/answer", "$defs": whole["$defs"]}
    hints = types.ToolAnnotations(read_only_hint=not tool.trains, destructive_hint=False, open_world_hint=False)
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=output,
        annotations=hints,
    )


async def _answer(tool: tools.Tool, given: dict[str, Any], jobs: Jobs) -> dict[str, Any]:
    if tool.name == "jobs":
        return {"jobs": jobs.newest_first()}
    if tool.name in ("status", "stop"):
        return getattr(jobs, tool.name)(given["job"])  # type: ignore[no-any-return]
    if tool.trains:
        return await _started(jobs, tools.command_line(tool, given))
    return await _read(tools.command_line(tool, given))


async def _started(jobs: Jobs, arguments: list[str]) -> dict[str, Any]:
    """Starts a job, and waits for a moment: most bad input is noticed at once.

    Raises:
        Refused: it was; nothing has been created.
    """
    job = jobs.start(arguments)
    with anyio.move_on_after(WAIT):
        while jobs.status(job)["state"] == "running":
            await anyio.sleep(0.05)
    status = jobs.status(job)
    if status["answer"] is not None and "error" in status["answer"]:
        jobs.forget(job)
        raise Refused(message(status["answer"]))
    return status


async def _read(arguments: list[str]) -> dict[str, Any]:
    """The answer of a command.

    Raises:
        Refused: it is an error, or did not come in time.
    """
    ended = None
    with anyio.move_on_after(PATIENCE):
        ended = await anyio.run_process([*HARNESS, *arguments], check=False, stdin=subprocess.DEVNULL)
    if ended is None:
        raise Refused(f"harness {arguments[0]} did not answer within {PATIENCE:.0f} s")
    with contextlib.suppress(ValueError, IndexError):
        answer: dict[str, Any] = json.loads(ended.stdout.decode("utf-8", "replace").splitlines()[-1])
        if "error" in answer:
            raise Refused(message(answer))
        return answer
    last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    raise Refused(f"harness {arguments[0]} ended with status {ended.returncode}: {last}")


def message(error: dict[str, Any]) -> str:
    """A command's error as it prints it."""
    return "; ".join(filter(None, (error["error"], error["hint"])))
