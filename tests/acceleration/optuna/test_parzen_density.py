"""The density of TPE's kernels against Optuna's own."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

from studies.acceleration.optuna.parzen_density import log_density

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "share": FloatDistribution(0.0, 0.5),
    "far from 0": FloatDistribution(1e6, 1e6 + 1),
    "tenths": FloatDistribution(0.0, 1.0, step=0.1),
    "units": IntDistribution(1, 512, log=True),
    "layers": IntDistribution(1, 4),
    "kind": CategoricalDistribution(["a", "b", "c"]),
}


def drawn(names: list[str], count: int, seed: int, near: bool) -> dict[str, np.ndarray]:
    """Values in TPE's representation; `near`: all within a thousandth of the space, if it is numeric."""
    random = np.random.RandomState(seed)
    values: dict[str, Any] = {}
    for name in names:
        distribution: Any = SPACE[name]
        if isinstance(distribution, CategoricalDistribution):
            values[name] = random.randint(0, len(distribution.choices), count).astype(float)
            continue
        low, high = distribution.low, distribution.high
        place = random.rand(count) * (1e-3 if near else 1.0)
        value = np.exp(np.log(low) + place * np.log(high / low)) if distribution.log else low + place * (high - low)
        step = distribution.step
        values[name] = value if step is None else low + np.round((value - low) / step) * step
    return values


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(list(SPACE)), min_size=1, unique=True),
    kernels=st.sampled_from([0, 1, 2, 30, 500]),
    seed=st.integers(0, 2**31),
    near=st.booleans(),
)
def test_the_density_equals_optunas_up_to_rounding(names: list[str], kernels: int, seed: int, near: bool) -> None:
    space = {name: SPACE[name] for name in names}
    parameters = TPESampler()._parzen_estimator_parameters
    estimator = _ParzenEstimator(drawn(names, kernels, seed, near), space, parameters)
    points = drawn(names, 24, seed + 1, near=False)
    np.testing.assert_allclose(log_density(estimator, points), estimator.log_pdf(points), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("value", [0.9e-4, 1.1])
def test_the_density_is_zero_outside_the_space(value: float) -> None:
    space = {"rate": SPACE["rate"]}
    estimator = _ParzenEstimator(drawn(["rate"], 30, 0, False), space, TPESampler()._parzen_estimator_parameters)
    assert log_density(estimator, {"rate": np.array([value])}) == -np.inf
    assert estimator.log_pdf({"rate": np.array([value])}) == -np.inf
