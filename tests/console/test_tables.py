from typing import Any

from studies.console.tables import leaderboard


def row(number: int, value: float, size: float, state: str = "COMPLETE") -> dict[str, Any]:
    return {"number": number, "value": value, "further": {"size": size}, "state": state, "params": {"model.a": number}}


def test_the_pareto_front_comes_first_and_whole() -> None:
    rows = [
        row(0, 0.5, 9000.0),
        *(row(n, 0.9 - n / 100, 100.0 - n) for n in range(1, 14)),
        row(14, 0.99, 1.0, "PRUNED"),
    ]
    rows.append({"number": 15, "value": None, "state": "FAIL", "params": {}})
    lines = leaderboard(rows, "acc", "maximize", 1, limit=3, further={"size": "minimize"}).splitlines()
    assert lines[0].split() == ["rank", "trial", "front", "acc", "size", "a"]
    assert [line.split()[-5:-3] for line in lines[1:14]] == [[str(n), "yes"] for n in range(1, 14)]
    assert lines[1].split() == ["*", "1", "1", "yes", "0.8900", "99", "1"]
    assert lines[14:] == ["... and 1 more", "14 complete, 1 pruned, 1 failed"]


def test_one_objective_has_no_front() -> None:
    rows = [{"number": n, "value": n / 4, "state": "COMPLETE", "params": {}} for n in range(4)]
    lines = leaderboard(rows, "loss", "minimize", 0, limit=2).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["rank", "trial", "loss"],
        ["*", "1", "0", "0.000"],
        ["2", "1", "0.2500"],
    ]
