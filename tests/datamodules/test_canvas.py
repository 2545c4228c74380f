from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules import MNISTCanvas
from datamodules.canvas import INK, NO_DIGIT, SHARED

DIGITS = torch.zeros(10, 28, 28, dtype=torch.uint8)  # digit d is a bar with its own width and brightness
for digit in range(10):
    DIGITS[digit, 5 : 15 + digit, 8 : 12 + digit] = 100 + 15 * digit
LABELS = torch.arange(10)


def scattered(target: str = "boxes", number: int = 20, part: str = "train", **arguments: Any) -> tuple[Tensor, ...]:
    return MNISTCanvas(target=target, **arguments)._scatter(part, number, DIGITS, LABELS)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=25)
@given(
    most=st.integers(1, 12), fewest=st.integers(0, 12), canvas_size=st.integers(32, 90), split_seed=st.integers(0, 99)
)
def test_boxes_bound_the_ink_of_their_digits_and_leave_each_other_room(
    most: int, fewest: int, canvas_size: int, split_seed: int
) -> None:
    sizes = {"min_digits": min(most, fewest), "max_digits": most, "canvas_size": canvas_size}
    images, boxes, labels = scattered(split_seed=split_seed, **sizes)
    same, masks = scattered("masks", split_seed=split_seed, **sizes)
    assert torch.equal(images, same), "the target does not change a canvas"
    assert images.shape == masks.shape == (20, canvas_size, canvas_size) and boxes.shape == (20, most, 4)
    for image, mask, of_image, digits in zip(images, masks, boxes, labels, strict=True):
        there = digits != NO_DIGIT
        assert there.sum() == there.int().cumprod(0).sum(), "real boxes come first"
        assert (of_image[~there] == 0).all()
        covered = torch.zeros_like(mask, dtype=torch.bool)
        for index, (label, (left, top, right, bottom)) in enumerate(
            zip(digits[there].tolist(), of_image[there].int().tolist(), strict=True)
        ):
            assert (bottom - top, right - left) == (10 + label, 4 + label), "the ink's own size"
            assert 0 <= left < right <= canvas_size and 0 <= top < bottom <= canvas_size
            inside = mask[top:bottom, left:right]
            assert (inside == 1 + label).float().mean() >= 1 - SHARED * (there.sum() - 1)
            covered[top:bottom, left:right] = True
            for other in of_image[:index]:
                across = min(right, other[2]) - max(left, other[0])
                down = min(bottom, other[3]) - max(top, other[1])
                smaller = min((right - left) * (bottom - top), (other[2] - other[0]) * (other[3] - other[1]))
                assert max(across, 0) * max(down, 0) <= SHARED * smaller
        assert ((mask > 0) == covered).all() and ((image >= INK) == covered).all()


def test_there_are_as_many_digits_as_asked_for_where_there_is_room() -> None:
    _, _, labels = scattered(number=400, canvas_size=96, min_digits=0, max_digits=3)
    counts = (labels != NO_DIGIT).sum(dim=1).bincount(minlength=4)
    assert (counts > 60).all(), counts
    assert set(labels.unique().tolist()) == {NO_DIGIT, *range(10)}


def test_canvases_depend_on_the_split_seed_and_the_part_alone() -> None:
    first = scattered()
    assert all(torch.equal(a, b) for a, b in zip(first, scattered(seed=7, batch_size=3), strict=True))
    assert not torch.equal(first[0], scattered(split_seed=1)[0])
    assert not torch.equal(first[0], scattered(part="test")[0])


@pytest.mark.parametrize("target", ["masks", "boxes"])
def test_batches(target: str) -> None:
    data = MNISTCanvas(target=target, batch_size=4, max_digits=3)  # type: ignore[arg-type]
    data.parts = {part: scattered(target, 10, part, max_digits=3) for part in ("train", "validation", "test")}
    images, *targets = next(iter(data.train_dataloader()))
    assert images.shape == (4, 1, 64, 64) and images.dtype == torch.float32
    shapes = {"masks": [(4, 64, 64)], "boxes": [(4, 3, 4), (4, 3)]}
    assert [tuple(tensor.shape) for tensor in targets] == shapes[target]
    assert targets[-1].dtype == torch.int64
    assert len(next(iter(data.val_dataloader()))[0]) == len(next(iter(data.predict_dataloader()))[0]) == 10
    darkest = images.amin()
    assert darkest == pytest.approx(-0.1307 / 0.3081, rel=1e-4), "black, normalized as MNIST's is"


def test_training_canvases_show_no_held_out_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, np.ndarray] = {}
    data = MNISTCanvas(train_canvases=40, eval_canvases=10)
    data.digits.training_set = torch.arange(60_000).view(-1, 1, 1).expand(-1, 2, 2), torch.zeros(60_000).long()
    order = torch.randperm(60_000)
    data.digits.validation, data.digits.train = order[:5000], order[5000:]

    def scatter(part: str, number: int, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        used[part] = pixels[:, 0, 0].numpy()
        return (torch.zeros(number),)

    monkeypatch.setattr(data, "_scatter", scatter)
    monkeypatch.setattr(data.digits, "setup", lambda stage: None)
    data.setup("fit")
    assert len(used["train"]) == 55_000 and not set(used["train"]) & set(used["validation"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"target": "mask"}, "target must be one of masks, boxes, but got target='mask'"),
        ({"min_digits": -1}, "min_digits must be at least 0, but got min_digits=-1"),
        ({"min_digits": 3, "max_digits": 2}, "max_digits must be at least 3, but got max_digits=2"),
        ({"max_digits": 0, "min_digits": 0}, "max_digits must be at least 1"),
        ({"canvas_size": 20}, "canvas_size must be at least 32"),
        ({"batch_size": 0}, "batch_size must be between 1 and the 8000 training canvases, but got batch_size=0"),
        ({"train_canvases": 10}, "batch_size must be between 1 and the 10 training canvases"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MNISTCanvas(**arguments)
