"""What a race has shown, in sentences."""

from __future__ import annotations

from studies.statistics.intervals import Summary
from studies.statistics.paired import Comparison
from studies.statistics.race import Race


def verdict_lines(race: Race) -> list[str]:
    """The verdict in one line, then a line for each other comparison and for each that was stopped or failed."""
    leader, baseline = race.leader, race.baseline
    found = race.comparisons()
    lines = []
    if leader is not None and baseline is not None and (leader, baseline) in found:
        lines.append(sentence(leader, baseline, found[leader, baseline]))
    lines += [
        sentence(a, b, comparison)
        for (a, b), comparison in found.items()
        if (a, b) != (leader, baseline) and not {a, b} & {*race.stopped, *race.failed}
    ]
    if not lines and not race.finished:
        lines.append("no verdict yet: not all seeds are trained")
    elif not lines:
        lines.append(f"no candidate beats {baseline or 'another'}: all were stopped early or failed")
    lines += [
        f"{name} was stopped after {seeds} seeds: it could not win any more" for name, seeds in race.stopped.items()
    ]
    return lines + [f"{name} is out: its training failed" for name in race.failed]


def sentence(a: str, b: str, found: Comparison) -> str:
    """A comparison in one sentence."""
    if found.verdict == "worse":
        return sentence(b, a, turned(found))
    details = (
        f"difference {found.difference:+.4g} [{found.low:+.4g}, {found.high:+.4g}], "
        f"P(better) {found.probability_better:.1%}, p = {found.p_value:.2g}"
    )
    seeds = f"{len(found.differences)} paired seeds"
    if found.comparisons > 1:
        seeds += f", corrected for {found.comparisons} comparisons"
    said = {
        "better": f"{a} beats {b}",
        "more seeds needed": f"more seeds needed to tell {a} from {b}: about {found.seeds_needed}",
        "not distinguishable": f"{a} and {b} are not distinguishable",
    }[found.verdict]
    return f"{said} ({details}; {seeds})"


def turned(found: Comparison) -> Comparison:
    """The same comparison of b with a."""
    return Comparison(tuple(-value for value in found.differences), found.comparisons)


def luck(searched: float | None, summary: Summary | None, direction: str) -> float | None:
    """By how much the value that the search saw is better than the mean on fresh seeds; None if one is unknown."""
    if searched is None or summary is None:
        return None
    return searched - summary.mean if direction == "maximize" else summary.mean - searched
