"""The command `harness`. Heavy imports are done inside the commands that need them.

Exit status: 0 done, 1 the work failed, 2 bad input, 130 or 143 interrupted, 141 output pipe closed by its reader. With
--json the last line of stdout is one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

try:
    from studies.cli import completion, inspecting
    from studies.cli.command_table import COMMANDS
    from studies.cli.parser import build_parser, parse
    from studies.cli.secret_arguments import hide_secrets
    from studies.cli.streams import has_no_reader, leave, let_libraries_warn, prepare_streams, redirect_if_broken, show
    from studies.common.errors import StorageFailed, WorkFailed, chain
    from studies.common.plain import made_plain
    from studies.common.strict_json import json_line
    from studies.common.text import clean_text
except KeyboardInterrupt:  # too early for the regular handling
    raise SystemExit(130) from None


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    if argv is None:
        # MLflow makes 40 objects per run that it reads, and by default Python looks for cycles after every 700 new
        # objects: half the time of a command on 10,000 runs. Trials have processes of their own, with the default.
        gc.set_threshold(50_000, 20, 50)
        if completion.ASKED in os.environ:
            completion.complete()
        let_libraries_warn()
        hide_secrets()
    prepare_streams()
    atexit.register(leave)
    try:
        status = _answer(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except OSError:  # not even the error can be printed
        status = 1
    if any([redirect_if_broken(stream) for stream in (sys.stdout, sys.stderr)]):
        status = 128 + signal.SIGPIPE
    if status == 130 and argv is None:  # another Ctrl-C during exit ends the process silently
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return status


def _answer(argv: list[str]) -> int:
    as_json = "--json" in argv
    try:
        if argv[:1] in (["train"], ["study"]) and {"--help", "-h"} & set(argv) and len(argv) > 2:
            return inspecting.help_of(argv)
        if argv[:1] == ["--version"]:
            return inspecting.show_versions(as_json)
        options, overrides = parse(argv)
        if options.command is None:
            build_parser().print_help()
            return 2
        with made_plain(getattr(options, "plain", False)):
            return COMMANDS[options.command](options, overrides, argv)
    except ValueError as error:
        return _fail(str(error), 2, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and (has_no_reader(sys.stdout) or has_no_reader(sys.stderr)):
            raise
        return _fail(f"{type(error).__name__}: {error}", 1, as_json)
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in chain(error)):  # Ctrl-C during an import
            return _fail("interrupted", 130, as_json)
        if isinstance(error, WorkFailed | StorageFailed):
            return _fail(str(error), 1, as_json)
        raise


def _fail(message: str, status: int, as_json: bool) -> int:
    error, _, hint = message.partition("; did you mean ")
    show(f"harness: {' '.join(clean_text(message, LONGEST).split())}", file=sys.stderr)
    if as_json:
        print(json_line({"error": error, "hint": f"did you mean {hint}" if hint else ""}))
    return status


LONGEST = 900  # characters of a message: it may repeat what somebody wrote to a file


if __name__ == "__main__":
    raise SystemExit(main())
