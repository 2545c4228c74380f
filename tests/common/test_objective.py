import itertools
import random

import pytest

from studies.common import objective
from studies.common.objective import best_first, dominates, pareto_front

BOTH = {"acc": "maximize", "size": "minimize"}


def test_a_point_dominates_if_it_is_nowhere_worse_and_somewhere_better() -> None:
    assert dominates((0.9, 5), (0.8, 5), BOTH) and dominates((0.9, 5), (0.9, 6), BOTH)
    assert not dominates((0.9, 5), (0.9, 5), BOTH) and not dominates((0.9, 6), (0.8, 5), BOTH)
    assert dominates((0.9, 5), (float("nan"), 5), BOTH) and not dominates((float("nan"), 5), (0.1, 5), BOTH)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_front_is_what_no_other_point_dominates(count: int) -> None:
    chance = random.Random(count)
    objectives = dict(itertools.islice({**BOTH, "time": "minimize"}.items(), count))
    for _ in range(50):
        points = [[chance.randrange(6) for _ in objectives] for _ in range(chance.randrange(20))]
        front = [
            index
            for index, point in enumerate(points)
            if not any(dominates(other, point, objectives) for other in points)
        ]
        assert sorted(pareto_front(points, objectives)) == front
        order = best_first(points, objectives)
        assert sorted(order) == list(range(len(points))) and sorted(order[: len(front)]) == front
        accs = [points[index][0] for index in order]
        assert accs[: len(front)] == sorted(accs[: len(front)], reverse=True)
        assert accs[len(front) :] == sorted(accs[len(front) :], reverse=True)


def test_equal_points_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand trials may all reach the same value."""
    compared = []
    monkeypatch.setattr(objective, "_dominates", lambda one, other: compared.append(one) or False)
    assert pareto_front([[1.0]] * 500, {"acc": "maximize"}) == list(range(500)) and compared == []
    points = [[0.5, 1], [0.9, 2]] * 250
    assert len(pareto_front(points, BOTH)) == 500 and len(compared) == 1
