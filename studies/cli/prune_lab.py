"""`harness prune-lab`: what each pruner and sampler would have saved and lost on a study's recorded curves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studies.cli.inspecting_options import REPLAYED
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.cli.training import at_least
from studies.cli.tuning import new_file
from studies.common.state_folder import StateFolder
from studies.config.checks import PRUNERS, one_of

if TYPE_CHECKING:
    from studies.search import Search
    from studies.search.recorded_curves import Curve

MOST_TRIALS = 50  # that a sampler may use; of fewer recorded ones, half
SHOWN = (5, 10, 20, 50)  # numbers of trials in the table


def prune_lab(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    pruners = _names("pruner", options.pruners, PRUNERS)
    samplers = _names("sampler", options.samplers, REPLAYED)
    at_least("seeds", options.seeds, 1)
    state_folder = StateFolder.find(options.storage)
    from studies.search import Search
    from studies.search.recorded_curves import curves_of

    search = Search.existing(state_folder.storage, options.study)
    curves, others = curves_of(search)
    output = new_file(options.output, f"{options.study.replace('/', '-')}-prune-lab")
    answer = _replayed(search, curves, pruners, samplers, options.seeds)
    answer = {"study": search.name, "curves": len(curves), "left_out": others, **answer, "picture": str(output)}
    from studies.plots.figure import save
    from studies.plots.prune_lab import prune_lab_picture

    save(prune_lab_picture(answer["pruners"], answer["samplers"], f"What study {search.name} could have saved"), output)
    if options.json:
        print_json(answer)
        return 0
    _show(answer)
    return 0


def _names(what: str, given: str | None, allowed: tuple[str, ...]) -> list[str]:
    return [one_of(what, name.strip(), allowed) for name in given.split(",")] if given else list(allowed)


def _replayed(
    search: Search, curves: Sequence[Curve], pruners: Sequence[str], samplers: Sequence[str], seeds: int
) -> dict[str, Any]:
    from studies.config.search_space import parse_space
    from studies.console.progress import Display
    from studies.search.pruner_replay import replay_pruner
    from studies.search.sampler_replay import regrets

    [(metric, direction)] = search.objectives.items()
    trials = min(MOST_TRIALS, len(curves) // 2)
    written = search.definition["space"]
    found: dict[str, Any] = {"metric": metric, "direction": direction, "pruners": [], "samplers": [], "seeds": seeds}
    title = f"prune-lab {search.name}"
    with Display(title=title, metric=None, direction="maximize", total=1) as display:
        for name in pruners:
            display.phase(f"replaying {len(curves)} curves under the pruner {name}")
            found["pruners"].append({"pruner": name, **replay_pruner(curves, name, direction, search.name)})
        if isinstance(written, str):
            display.say(f"samplers are not replayed: the space is a function, {written}, which is not called")
            return found
        for name in samplers:
            display.phase(f"searching {seeds} times with the sampler {name}: {trials} of {len(curves)} recorded trials")
            regret = regrets(curves, parse_space(written), direction, name, range(seeds), trials)
            found["samplers"].append({"sampler": name, "regret": regret})
    return found


def _show(answer: dict[str, Any]) -> None:
    left = answer["left_out"]
    partly = f"; {left} without a whole curve are left out (--pruner none records whole ones)" if left else ""
    show(f"{answer['curves']} complete trials of study {answer['study']}{partly}")
    show("\npruner      pruned  validations saved  time saved  best kept  regret   pruned of the best tenth")
    for row in answer["pruners"]:
        share = row["reports_saved"] / row["reports"]
        time_share = row["seconds_saved"] / row["seconds"] if row["seconds"] else 0.0
        wrong = ", ".join(f"{one['number']} (rank {one['rank']}, at {one['at']})" for one in row["wrongly_pruned"][:3])
        more = f", and {len(row['wrongly_pruned']) - 3} more" if len(row["wrongly_pruned"]) > 3 else ""
        regret = "none left" if row["regret"] is None else f"{row['regret']:.4g}"
        kept = "yes" if row["best_survived"] else "no"
        saved = f"{share:>17.0%}  {time_share:>10.0%}"
        show(f"{row['pruner']:<10}  {row['pruned']:>6}  {saved}  {kept:>9}  {regret:<9}{wrong + more or '-'}")
    if answer["samplers"]:
        longest = max(len(row["regret"]) for row in answer["samplers"])
        counts = [count for count in SHOWN if count <= longest] or [longest]
        show(f"\nsampler     median regret of {answer['metric']} over {answer['seeds']} seeds after n trials")
        show(" " * 12 + "".join(f"{f'n={count}':>10}" for count in counts))
        for row in answer["samplers"]:
            cells = "".join(f"{row['regret'][count - 1]:>10.4g}" for count in counts)
            show(f"{row['sampler']:<12}{cells}")
        show("A sampler's proposal gets the result of the nearest recorded trial that it has not had yet.")
    show(f"\npicture     {answer['picture']}")
