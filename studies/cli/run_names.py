"""How a run is called: --name, --tag and --note, and by default what differs from its experiment's file."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping

from studies.cli.bad_input import BadInput
from studies.protocol.metric_names import tag_key

NOTE = "mlflow.note.content"  # what MLflow's UI shows as a run's description
LONGEST = 250  # characters of a name and of a tag's key in MLflow


def add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", help="name of the run in MLflow (default: what differs from the experiment's file, or the study)"
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="a tag of the run in MLflow; may be repeated"
    )
    parser.add_argument("--note", help="a description of the run, in Markdown")


def tags_of(options: argparse.Namespace) -> dict[str, str]:
    """The tags that a command line gives a run, with its note.

    Raises:
        BadInput: a tag has no key, or one that MLflow or the harness uses itself.
    """
    tags: dict[str, str] = {}
    for text in options.tag:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise BadInput(f"tag must be KEY=VALUE, but got tag={text!r}")
        if key.startswith(("mlflow.", "harness.")):
            raise BadInput(f"tag {key} is reserved: --name and --note set a run's name and description")
        if tag_key(key) != key or len(key) > LONGEST:
            raise BadInput(f"tag's key must be up to {LONGEST} letters, digits and _-./: or spaces, but got {key!r}")
        tags[key] = value
    return tags | ({NOTE: options.note} if options.note is not None else {})


def name_of(options: argparse.Namespace, overrides: Mapping[str, str], origin: str | None = None) -> str | None:
    """--name, or the overridden values by their short names, such as "learning_rate=0.01 seed=3".

    Args:
        origin: the run whose values were taken, if any.

    Returns:
        None if nothing differs.
    """
    if options.name is not None:
        if not options.name.strip() or len(options.name) > LONGEST:
            raise BadInput(f"name must have 1 to {LONGEST} characters, but got {len(options.name)}")
        return str(options.name)
    short = {name: name.rpartition(".")[2] for name in overrides}
    uses = Counter(short.values())
    words = [f"{short[name] if uses[short[name]] == 1 else name}={text}" for name, text in overrides.items()]
    if options.seed is not None:
        words.append(f"seed={options.seed}")
    if origin is not None:
        words.insert(0, f"from {origin[:8]}")
    return " ".join(words)[:LONGEST] or None
