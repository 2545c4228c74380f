from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.config.search_space import Choice, Range, decode_choice, encode_choice, grid_of, parse_space


def test_ranges_and_choices() -> None:
    space = parse_space(
        {
            "model.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
            "model.depth": {"low": 1, "high": 3},
            "data.batch_size": [32, 64],
        }
    )
    assert space["model.learning_rate"] == Range(1e-4, 0.1, log=True)
    assert space["model.depth"].points == [1, 2, 3]
    assert space["data.batch_size"] == Choice([32, 64])


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model.a": {"low": 2, "high": 1}}, "low must be below high"),
        ({"model.a": {"low": 1, "high": 1}}, "low must be below high"),
        ({"model.a": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"model.a": {"low": "x", "high": 1}}, "low must be a number"),
        ({"model.a": {"low": float("nan"), "high": 1}}, "low must be a number"),
        ({"model.a": {"low": True, "high": 2}}, "low must be a number"),
        ({"model.a": {"high": 1}}, "low must be a number"),
        ({"model.a": {"low": 0, "high": 1, "step": 0}}, "step"),
        ({"model.a": {"low": 1, "high": 2, "step": 1, "log": True}}, "step"),
        ({"model.a": {"low": 0, "high": 1, "hihg": 2}}, "did you mean high"),
        ({"model.a": {"low": 0, "high": 1, "log": "yes"}}, "log must be true or false"),
        ({"model.a": []}, "one or more distinct"),
        ({"model.a": [1, 1]}, "distinct"),
        ({"model.a": 3}, "list or"),
        ({"modle.a": [1, 2]}, "did you mean model"),
        ({"model": [1, 2]}, "model"),
        ({3: [1, 2]}, "3"),
        ({}, "space must map"),
        ([1], "space must map"),
        (None, "space must map"),
    ],
)
def test_an_invalid_space_gives_one_line(space: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_space(space)
    assert "\n" not in str(caught.value)


def test_limits_of_numbers_and_all_other_choices() -> None:
    assert Choice([64, 256, 32]).ends == [32, 256]
    assert Choice([[1], [2, 3]]).ends == [[1], [2, 3]]
    assert Choice([True, False]).ends == [True, False]


values = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(0, 9)))


@given(st.lists(values, min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_every_choice_round_trips_through_storage(items: list[Any]) -> None:
    encoded = [encode_choice(item) for item in items]
    if len({repr(item) for item in encoded}) < len(items) or any(encoded.count(item) > 1 for item in encoded):
        return  # 1 and true, or text that looks like a list: rejected or equal anyway
    choice = Choice(items)
    for item in items:
        assert decode_choice(choice, encode_choice(item)) == item


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_the_grid_holds_every_point_once_in_an_order_of_the_seed(seed: int) -> None:
    space = parse_space({"model.a": [1, 2, 3], "data.b": {"low": 0.0, "high": 1.0, "step": 0.5}})
    grid = grid_of(space, seed)
    assert len(grid) == 9 and len({tuple(point.items()) for point in grid}) == 9
    assert grid == grid_of(space, seed)


def test_a_grid_needs_points() -> None:
    with pytest.raises(ValueError, match=r"model\.a"):
        grid_of(parse_space({"model.a": {"low": 0.0, "high": 1.0}}), 0)


@pytest.mark.parametrize(("low", "high", "step", "count"), [(0.1, 0.3, 0.1, 3), (0.0, 0.7, 0.1, 8), (0, 0.25, 0.1, 3)])
def test_a_grid_includes_the_upper_limit_if_steps_reach_it(low: float, high: float, step: float, count: int) -> None:
    """0.3 - 0.1 is a little less than two times 0.1."""
    assert Range(low, high, step=step).points == pytest.approx([low + i * step for i in range(count)])


@pytest.mark.parametrize("name", ["seed", "seed_everything", "data.seed", "model.init_args.random_state"])
def test_a_seed_is_not_searched(name: str) -> None:
    with pytest.raises(ValueError, match=r"is a seed, and the best of several seeds is luck: search.seeds"):
        parse_space({name: [1, 2, 3]})
