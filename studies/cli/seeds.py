"""--seeds, --until and --workers of `harness train`: one configuration on several seeds."""

from __future__ import annotations

import argparse

from studies.cli.bad_input import BadInput, at_least

MOST_SEEDS = 10_000


def add_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds",
        metavar="N|A,B,C",
        help="train with N seeds, or with these, and show the mean of each metric with its 95%% interval",
    )
    parser.add_argument(
        "--until",
        type=float,
        metavar="H",
        help="with --seeds: end, after at least 3, once the interval of the searched metric is within H on either side",
    )
    parser.add_argument("--workers", type=int, default=1, help="with --seeds: runs at once, at least 1 (default: 1)")


def seeds_of(options: argparse.Namespace, first: int) -> tuple[int, ...] | None:
    """The seeds of --seeds: a number of them, counted from `first`, or a list; None without it.

    Raises:
        BadInput: there are fewer than two, one is no seed or occurs twice, or --until or --workers stand without it.
    """
    at_least("workers", options.workers)
    if options.seeds is None:
        for name, usual in {"until": None, "workers": 1}.items():
            if getattr(options, name) != usual:
                raise BadInput(f"--{name} applies to a training on several seeds: give --seeds too")
        return None
    from studies.config.checks import checked_seed

    words = [word.strip() for word in options.seeds.rstrip(",").split(",")]
    if not all(word.isdigit() for word in words):
        raise BadInput(f"seeds must be a number of seeds, or seeds such as 3,7,11, but got seeds={options.seeds}")
    if "," in options.seeds and options.seed is not None:
        raise BadInput("--seed is the first of a number of --seeds, but --seeds lists them already: give one of them")
    numbers = [int(word) for word in words]
    seeds = numbers if "," in options.seeds else list(range(first, first + min(numbers[0], MOST_SEEDS + 1)))
    if len(seeds) < 2 or len(seeds) > MOST_SEEDS:
        raise BadInput(f"seeds must be 2 to {MOST_SEEDS} seeds, but got seeds={options.seeds}")
    if len(set(seeds)) < len(seeds):
        raise BadInput(f"seeds must be different, but got seeds={options.seeds}")
    if options.until is not None and not options.until > 0:
        raise BadInput(f"until must be greater than 0, but got until={options.until}")
    return tuple(map(checked_seed, seeds))
