import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score, root_mean_squared_error
from torch.nn import functional as F

from lightning_modules.tasks import BINS, SCORES, Classification, Regression, precise, task_of


def over_batches(task: Any, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    sums = sum(task.summed(a, b) for a, b in zip(outputs.split(7), targets.split(7), strict=True))
    return {name: float(value) for name, value in task.means(sums).items()}


@pytest.mark.parametrize("sigmoid", [False, True])
def test_two_classes_by_one_output_or_two(sigmoid: bool) -> None:
    torch.manual_seed(0)
    targets = torch.randint(2, (200,))
    score = torch.randn(200) + targets
    outputs = score[:, None] if sigmoid else torch.stack([-score / 2, score / 2], dim=1)
    task = Classification(2, ["no", "yes"], sigmoid)
    found = over_batches(task, outputs, targets)

    assert task.outputs == (1 if sigmoid else 2)
    assert found["loss"] == pytest.approx(F.binary_cross_entropy_with_logits(score, targets.float()).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(((score > 0) == targets.bool()).float().mean().item())
    assert found["roc_auc"] == pytest.approx(roc_auc_score(targets, score), abs=2e-3)  # approximate because of binning
    assert task.loss(outputs, targets).item() == pytest.approx(found["loss"], rel=1e-5)
    assert torch.allclose(task.probabilities(outputs)[:, 1], score.sigmoid())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, BINS - 1), st.booleans()), min_size=2, max_size=60))
def test_roc_auc_is_exact_where_the_bins_tell_the_scores_apart(samples: list[tuple[int, bool]]) -> None:
    score = torch.tensor([(place + 0.5 - BINS / 2) * 2 * SCORES / BINS for place, _ in samples])
    targets = torch.tensor([int(positive) for _, positive in samples])
    found = over_batches(Classification(2, sigmoid=True), score[:, None], targets)["roc_auc"]
    if 0 < targets.sum() < len(targets):
        assert found == pytest.approx(roc_auc_score(targets, score))
    else:
        assert math.isnan(found), "undefined for a single class"


def test_scores_beyond_all_bins_still_count() -> None:
    outputs = torch.tensor([[-1e9], [1e9], [-30.0], [30.0]])
    found = over_batches(Classification(2, sigmoid=True), outputs, torch.tensor([0, 1, 0, 1]))
    assert found["roc_auc"] == 1.0 and found["accuracy"] == 1.0


def test_several_classes_have_no_roc_curve() -> None:
    outputs, targets = torch.randn(20, 3), torch.randint(3, (20,))
    found = over_batches(Classification(3), outputs, targets)
    assert set(found) == {"loss", "accuracy"}
    assert found["loss"] == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.floats(0.1, 1e3), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_regression_tells_errors_in_the_targets_unit(count: int, scale: float, middle: float, seed: int) -> None:
    torch.manual_seed(seed)
    targets = middle + scale * torch.randn(count)
    outputs = targets + 0.5 * scale * torch.randn(count)
    found = over_batches(Regression(scale), outputs[:, None], targets)

    assert found["rmse"] == pytest.approx(root_mean_squared_error(targets, outputs), rel=1e-3)
    assert found["loss"] == pytest.approx((found["rmse"] / scale) ** 2, rel=1e-3)
    assert found["r2"] == pytest.approx(r2_score(targets.double(), outputs.double()), rel=1e-2, abs=1e-2)
    assert Regression(scale).loss(outputs[:, None], targets).item() == pytest.approx(found["loss"], rel=1e-3)


def test_the_data_choose_the_task() -> None:
    assert isinstance(task_of(None, None, 2.0), Regression)
    assert task_of(3, None, 1.0).outputs == 3
    assert task_of(2, None, 1.0, "sigmoid").outputs == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, None, 1.0), "num_classes must be at least 2"),
        ((3, ["a"], 1.0), "class_names must hold 3 names"),
        ((3, None, 1.0, "sigmoid"), "output=sigmoid is for two classes, but got num_classes=3"),
        ((None, None, 1.0, "softmax"), "output must be auto or identity where the targets are numbers"),
        ((2, None, 1.0, "identity"), "output must be auto, softmax or sigmoid where the targets are classes"),
        ((2, None, 1.0, "sigmod"), "output must be one of auto, softmax, sigmoid, identity, but got output='sigmod'"),
        ((None, None, 0.0), "target_scale must be greater than 0"),
    ],
)
def test_mismatches_are_rejected(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_of(*arguments)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_sums_are_as_precise_as_the_device_allows(device: str, dtype: torch.dtype) -> None:
    assert precise(SimpleNamespace(device=torch.device(device))) == dtype  # type: ignore[arg-type]
