import math

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules import Detector
from lightning_modules.detector import BOX, STRIDE

CLASSES = ["a", "b", "c"]


class Fake(torch.nn.Module):
    """A fake network with objects at places of an 8x8 grid: (image, row, column) -> (class, box in pixels)."""

    def __init__(self, images: int, things: dict[tuple[int, int, int], tuple[int, tuple[float, ...]]]) -> None:
        super().__init__()
        outputs = torch.zeros(images, BOX + 1 + len(CLASSES), 8, 8)
        outputs[:, BOX] = -20.0
        for (image, row, column), (label, (left, top, right, bottom)) in things.items():
            x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
            for index, distance in enumerate((x - left, y - top, right - x, bottom - y)):
                outputs[image, index, row, column] = math.log(math.expm1(distance / STRIDE))  # inverse softplus
            outputs[image, BOX, row, column] = 4.0 - 0.1 * column
            outputs[image, BOX + 1 + label, row, column] = 15.0
        self.outputs = torch.nn.Parameter(outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs


def saying(images: int, things: dict[tuple[int, int, int], tuple[int, tuple[float, ...]]]) -> Detector:
    module = Detector(width=1, depth=1, image_shape=(1, 32, 32), num_classes=3, class_names=CLASSES)
    module.network = Fake(images, things)  # type: ignore[assignment]
    return module


# The middles are at row 12/4 = 3 and column 10/4 = 2 of image 0; row 6, column 5 of image 1.
BOXES = torch.tensor([[[4.0, 6, 16, 18], [0, 0, 0, 0]], [[16, 20, 28, 30], [0, 0, 0, 0]]])
LABELS = torch.tensor([[2, -1], [0, -1]])
RIGHT = {(0, 3, 2): (2, (4.0, 6, 16, 18)), (1, 6, 5): (0, (16.0, 20, 28, 30))}


def test_boxes_and_classes_are_decoded_from_places() -> None:
    module = saying(2, {**RIGHT, (1, 0, 0): (1, (0.0, 0, 8, 8))})
    first, second = module.answers(torch.zeros(2, 1, 32, 32))
    assert (first["answer"], second["answer"]) == ("c", "b a"), "from left to right"
    assert first["boxes"][0]["box"] == pytest.approx([4, 6, 16, 18], abs=1e-4)
    assert first["boxes"][0]["probability"] == pytest.approx(1 / (1 + math.exp(-3.8)), rel=1e-3)


def test_non_maximum_suppression_keeps_the_most_probable_box() -> None:
    twice = {(0, 3, 2): (2, (4.0, 6, 16, 18)), (0, 3, 3): (1, (5.0, 6, 17, 18)), (0, 7, 7): (1, (22.0, 22, 31, 31))}
    (answer,) = saying(1, twice).answers(torch.zeros(1, 1, 32, 32))
    assert answer["answer"] == "c b"


def test_no_detection_gives_an_empty_answer() -> None:
    assert saying(1, {}).answers(torch.zeros(1, 1, 32, 32)) == [{"answer": "", "boxes": []}]


def test_the_loss_is_zero_if_correct_and_its_gradient_is_at_the_objects_places() -> None:
    right = saying(2, RIGHT)._loss((torch.zeros(2, 1, 32, 32), BOXES, LABELS)).item()
    assert right < 0.05
    for wrong in (
        {**RIGHT, (0, 3, 2): (1, (4.0, 6, 16, 18))},  # another class
        {**RIGHT, (0, 3, 2): (2, (1.0, 6, 16, 18))},  # another box
        {**RIGHT, (0, 7, 7): (2, (22.0, 22, 31, 31))},  # an object too many
        {(1, 6, 5): RIGHT[1, 6, 5]},  # one too few
    ):
        assert saying(2, wrong)._loss((torch.zeros(2, 1, 32, 32), BOXES, LABELS)).item() > right + 0.09


def test_the_loss_of_canvases_without_objects_is_finite_and_has_a_gradient() -> None:
    module = Detector(width=2, depth=2, image_shape=(1, 32, 32))
    empty = torch.randn(3, 1, 32, 32), torch.zeros(3, 4, 4), torch.full((3, 4), -1)
    loss = module.training_step(empty, 0)
    loss.backward()
    assert loss.isfinite() and module.network.head.weight.grad is not None


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        (RIGHT, 1.0),
        ({**RIGHT, (0, 3, 2): (1, (4.0, 6, 16, 18))}, 0.5),  # class c is never found, class a always
        ({(0, 3, 2): (2, (4.0, 10, 16, 18)), (1, 6, 5): RIGHT[1, 6, 5]}, 1.0),  # two thirds of the box are enough
        ({(0, 3, 2): (2, (4.0, 13, 16, 18)), (1, 6, 5): RIGHT[1, 6, 5]}, 0.5),  # five twelfths are not
    ],
)
def test_average_precision_by_hand(things: dict, expected: float) -> None:
    module = saying(2, things)
    module.validation_step((torch.zeros(2, 1, 32, 32), BOXES, LABELS), 0)
    assert module._average_precision.compute()["map_50"].item() == pytest.approx(expected, abs=1e-3)


def test_the_average_precision_of_the_test_is_of_the_test_alone() -> None:
    module = saying(2, RIGHT)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    images = torch.zeros(2, 1, 32, 32)
    right = DataLoader([(images, BOXES, LABELS)], batch_size=None)
    wrong = DataLoader([(images, BOXES.flip(0), LABELS.flip(0))], batch_size=None)
    for _ in range(2):
        (validated,) = trainer.validate(module, wrong, verbose=False)
        assert validated["val/map_50"] == pytest.approx(0.0, abs=1e-3)
        (tested,) = trainer.test(module, right, verbose=False)
        assert tested["test/map_50"] == pytest.approx(1.0, abs=1e-3)


def test_forward_gives_boxes_and_probabilities_that_add_up_to_that_of_an_object() -> None:
    module = saying(2, RIGHT)
    places = module(torch.zeros(2, 1, 32, 32))
    assert places.shape == (2, 64, 4 + 3)
    assert places[0, 3 * 8 + 2, :4].tolist() == pytest.approx([4, 6, 16, 18], abs=1e-4)
    _, presence, _ = module._places(torch.zeros(2, 1, 32, 32))
    assert torch.allclose(places[..., 4:].sum(dim=2), presence.sigmoid())


def test_the_weights_are_all_that_is_saved() -> None:
    module = Detector(width=2, depth=1)
    assert set(module.state_dict()) == {f"network.{name}" for name in module.network.state_dict()}


def test_pictures_show_truth_and_answers() -> None:
    pictures = saying(2, RIGHT).pictures([(torch.zeros(2, 1, 32, 32), BOXES, LABELS)])
    boxes = pictures["boxed_canvases"]
    assert boxes["truth"] == [[("c", [4.0, 6.0, 16.0, 18.0])], [("a", [16.0, 20.0, 28.0, 30.0])]]
    assert [[name for name, _ in of_image] for of_image in boxes["predicted"]] == [["c"], ["a"]]
