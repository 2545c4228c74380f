import pytest
import torch
from torch import Tensor

from lightning_modules import Segmenter
from lightning_modules.segmenter import mean_iou


class Fake(torch.nn.Module):
    """A fake network with given classes for each pixel: logits (B, C, H, W) before the pixel shuffle."""

    def __init__(self, classes: Tensor, number: int) -> None:
        super().__init__()
        logits = 20.0 * torch.nn.functional.one_hot(classes, number).permute(0, 3, 1, 2).float()
        self.logits = torch.nn.functional.pixel_unshuffle(logits, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def saying(classes: Tensor) -> Segmenter:
    module = Segmenter(width=1, depth=1, num_classes=2, image_shape=classes.shape, class_names=["a", "b"])
    module.network = Fake(classes, 3)  # type: ignore[assignment]
    return module


def test_mean_iou_by_hand() -> None:
    # Class 0: 3 in both, 1 more predicted; class 1: 2 in both, 1 more true; class 2 does not occur.
    counts = torch.tensor([[3.0, 0, 0], [1, 2, 0], [0, 0, 0]])
    assert mean_iou(counts).item() == pytest.approx((3 / 4 + 2 / 3) / 2)
    # A class that is only predicted, wrongly, counts as 0.
    assert mean_iou(torch.tensor([[3.0, 1], [0, 0]])).item() == pytest.approx((3 / 4 + 0) / 2)


def test_metrics_are_over_all_pixels_of_all_batches() -> None:
    torch.manual_seed(0)
    masks, said = torch.randint(3, (6, 4, 4)), torch.randint(3, (6, 4, 4))
    module = saying(said[:4])
    for start, stop in ((0, 4), (4, 6)):  # unequal batches
        module.network = Fake(said[start:stop], 3)  # type: ignore[assignment]
        module.validation_step((torch.zeros(stop - start, 1, 4, 4), masks[start:stop]), 0)
    assert module._eval_sums is not None
    metrics = module.means("val", module._eval_sums)
    assert metrics["accuracy"].item() == pytest.approx((masks == said).float().mean().item())
    shares = [((masks == c) & (said == c)).sum() / ((masks == c) | (said == c)).sum() for c in range(3)]
    assert metrics["mean_iou"].item() == pytest.approx(torch.stack(shares).mean().item())
    assert metrics["loss"].item() == pytest.approx(20 * (masks != said).float().mean().item(), rel=1e-3)


def test_the_loss_is_the_mean_over_pixels_and_reaches_all_weights() -> None:
    torch.manual_seed(0)
    module = Segmenter(width=2, depth=2, image_shape=(1, 16, 16))
    images, masks = torch.randn(3, 1, 16, 16), torch.randint(11, (3, 16, 16))
    loss = module.training_step((images, masks), 0)
    logits = module(images)
    assert logits.shape == (3, 11, 16, 16)
    likely = logits.log_softmax(dim=1).gather(1, masks[:, None])
    assert loss.item() == pytest.approx(-likely.mean().item(), rel=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_answers_name_the_classes_and_count_their_pixels() -> None:
    mask = torch.zeros(2, 8, 8, dtype=torch.int64)
    mask[0, :4] = 2  # 32 pixels of b
    mask[1, 0, :2] = 1  # two stray pixels of a are not worth naming
    first, second = saying(mask).answers(torch.zeros(2, 1, 8, 8))
    assert (first["answer"], first["pixels"]) == ("b", {"b": 32})
    assert (second["answer"], second["pixels"]) == ("", {})
    assert first["mask"] == mask[0].tolist()


def test_pictures_show_predictions() -> None:
    mask = torch.randint(3, (2, 8, 8))
    pictures = saying(mask).pictures([(torch.randn(2, 1, 8, 8), mask)])
    assert (pictures["masked_canvases"]["predicted"] == mask.numpy()).all()


def test_images_too_small_for_the_depth_are_rejected() -> None:
    with pytest.raises(ValueError, match="multiples of 16 pixels, but they have 24x24"):
        Segmenter(depth=4, image_shape=(1, 24, 24))
