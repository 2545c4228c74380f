"""Row 18 of bench.py: regret after 50 trials on recorded curves, ours against random search and Hyperband.

.venv/bin/python benchmarks/regret.py --seeds 20

Ours is TPE with the median pruner, as in the shipped experiments; the rivals are random search without a pruner and
Optuna's HyperbandPruner with TPE. The method is that of `harness prune-lab` (studies/search/sampler_replay.py). The
regret is a share of the distance between the best recorded value and the median one. A seed also derives the bracket
of Hyperband's trials. p is that of a one-sided Mann-Whitney test that ours is smaller, of either regret.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from studies.config.search_space import parse_space
from studies.search.recorded_curves import Curve
from studies.search.sampler_replay import search_again

CURVES = Path(__file__).parent / "curves"
METHODS = {"ours": ("tpe", "median"), "random": ("random", "none"), "hyperband": ("tpe", "hyperband")}
TRIALS = 50


@dataclass
class Regrets:
    """Of one method on one recorded study, one figure a seed.

    Attributes:
        regret: after all trials.
        reports: validations that these took.
        early: regret after as many validations as ours took with the same seed.
    """

    regret: list[float]
    reports: list[int]
    early: list[float]


def recorded() -> dict[str, Path]:
    return {path.name.partition(".")[0]: path for path in sorted(CURVES.glob("*.json.gz"))}


def measure(path: Path, seeds: int, trials: int = TRIALS) -> dict[str, Regrets]:
    """The regrets of each method."""
    stored = json.loads(gzip.decompress(path.read_bytes()))
    curves = [Curve(**curve) for curve in stored["curves"]]
    space, direction = parse_space(stored["space"]), stored["direction"]
    values = [curve.value for curve in curves]
    best, middle = (max if direction == "maximize" else min)(values), statistics.median(values)

    if best == middle:
        raise SystemExit(f"{path.name}: half of its trials are as good as the best, so there is nothing to search")

    def share(found: float | None) -> float:
        return 1.0 if found is None else abs(best - found) / abs(best - middle)

    found: dict[str, Regrets] = {}
    for name, (sampler, pruner) in METHODS.items():
        runs = [search_again(curves, space, direction, sampler, pruner, seed, trials) for seed in range(seeds)]
        reports = [run[-1].reports for run in runs]
        budgets = found["ours"].reports if found else reports
        known = [[step.best for step in run if step.reports <= most] for run, most in zip(runs, budgets, strict=True)]
        early = [share(bests[-1] if bests else None) for bests in known]
        regret = [share(run[-1].best) for run in runs]
        found[name] = Regrets(regret, reports, early)
        print(f"  {path.name} {name} {statistics.mean(regret):.4f}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    print("| recorded study | method | mean regret | median | validations | mean regret at our validations | p | p |")
    print("|---|---|---|---|---|---|---|---|")
    for study, path in recorded().items():
        found = measure(path, options.seeds)
        for name, its in found.items():
            pairs = ((found["ours"].regret, its.regret), (found["ours"].early, its.early))
            tests = [stats.mannwhitneyu(*pair, alternative="less").pvalue for pair in pairs]
            p = "| " if name == "ours" else " | ".join(f"{value:.2g}" for value in tests)
            median, mean = statistics.median(its.regret), statistics.mean(its.regret)
            figures = (
                f"{mean:.4f} | {median:.4f} | {statistics.mean(its.reports):.0f} | {statistics.mean(its.early):.4f}"
            )
            print(f"| {study} | {name} | {figures} | {p} |")


if __name__ == "__main__":
    main()
