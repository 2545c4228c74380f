"""--seeds, --until and --workers of `harness train`."""

from __future__ import annotations

import argparse

import pytest

from studies.cli.bad_input import BadInput
from studies.cli.seeds import seeds_of


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"seeds": None, "seed": None, "until": None, "workers": 1, **given})


def test_a_number_counts_from_the_experiments_seed_and_a_list_is_taken_as_it_is() -> None:
    assert seeds_of(options(), 0) is None
    assert seeds_of(options(seeds="3"), 5) == (5, 6, 7)
    assert seeds_of(options(seeds="3, 11,7"), 5) == (3, 11, 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": "1"}, "2 to 10000"),
        ({"seeds": "3,"}, "2 to 10000"),
        ({"seeds": "99999999999"}, "2 to 10000"),
        ({"seeds": "a"}, "such as 3,7,11"),
        ({"seeds": "-1,2"}, "such as 3,7,11"),
        ({"seeds": "3,3"}, "different"),
        ({"seeds": "1,2147483648"}, "2147483647"),
        ({"seeds": "1,2", "seed": 4}, "give one of them"),
        ({"seeds": "2", "until": 0.0}, "greater than 0"),
        ({"seeds": "2", "until": float("nan")}, "greater than 0"),
        ({"until": 0.1}, "give --seeds too"),
        ({"workers": 2}, "give --seeds too"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_bad_input(given: dict[str, object], said: str) -> None:
    with pytest.raises((BadInput, ValueError), match=said):
        seeds_of(options(**given), 0)
