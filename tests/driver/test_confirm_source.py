"""Fresh seeds of `harness confirm`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from studies.driver.confirm_source import fresh_seeds
from studies.driver.seed_scores import shared_seed
from studies.search import derive_seed


@given(st.integers(0, 2**31 - 1), st.integers(1, 200), st.integers(2, 50))
def test_fresh_seeds_are_new_distinct_and_stay_the_same_when_more_are_wanted(
    seed: int, trials: int, count: int
) -> None:
    found = fresh_seeds(seed, trials, count)
    used = {seed, *(derive_seed(seed, number, "training") for number in range(trials)), shared_seed(seed, 0)}
    assert len(set(found)) == count and not set(found) & used
    assert fresh_seeds(seed, trials, count + 5)[:count] == found
