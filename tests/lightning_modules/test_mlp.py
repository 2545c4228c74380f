import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_modules import MLP
from lightning_modules.mlp import GaussianNoise


@settings(deadline=None, max_examples=30)
@given(
    hidden_sizes=st.lists(st.integers(1, 9), max_size=3),
    activation=st.sampled_from(["sigmoid", "tanh", "relu", "gelu"]),
    dropout=st.sampled_from([0.0, 0.5]),
    batch_norm=st.booleans(),
    input_shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    num_classes=st.integers(2, 5),
)
def test_any_shape_gives_one_logit_per_class_and_gradients_everywhere(
    num_classes: int, input_shape: tuple[int, int, int], **arguments: Any
) -> None:
    module = MLP(input_shape=input_shape, num_classes=num_classes, **arguments)
    logits = module(torch.randn(4, *input_shape))
    logits.sum().backward()

    assert logits.shape == (4, num_classes)
    assert all(parameter.grad is not None for parameter in module.parameters())
    linear = [layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)]
    assert linear == [*arguments["hidden_sizes"], num_classes]


def test_no_hidden_layer_is_multinomial_logistic_regression() -> None:
    module = MLP(hidden_sizes=[], input_shape=(1, 2, 2), num_classes=3)
    images = torch.randn(5, 1, 2, 2)
    weight, bias = module.parameters()

    assert torch.allclose(module(images), images.flatten(1) @ weight.T + bias)


def test_dropout_and_batch_norm_act_in_training_only() -> None:
    module = MLP(hidden_sizes=[50], dropout=0.5, batch_norm=True)
    images = torch.randn(8, 1, 28, 28)

    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))
    assert torch.allclose(module(images)[:3], module(images[:3]), atol=1e-5)


def test_noise_is_added_to_the_inputs_and_before_each_activation_in_training_only() -> None:
    torch.manual_seed(0)
    noise = GaussianNoise(0.3)
    inputs = torch.full((100, 1000), 2.0)
    added = noise(inputs) - inputs
    assert float(added.mean()) == pytest.approx(0.0, abs=0.005) and float(added.std()) == pytest.approx(0.3, rel=0.01)
    assert torch.equal(noise.eval()(inputs), inputs)

    module = MLP(hidden_sizes=[4, 3], batch_norm=True, noise=0.3)
    kinds = [type(layer) for layer in module.network]
    hidden = [nn.Linear, nn.BatchNorm1d, GaussianNoise, nn.ReLU]
    assert kinds == [nn.Flatten, GaussianNoise, *hidden, *hidden, nn.Linear]
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    assert frozen == ["network.3.weight", "network.7.weight"], "or it could outgrow the noise"


def test_checkpoint_restores_the_same_model(tmp_path: Path) -> None:
    module = MLP(hidden_sizes=[5], activation="tanh", learning_rate=0.25, class_names=list("abcdefghij"))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, max_epochs=0)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "mlp.ckpt")

    loaded = MLP.load_from_checkpoint(tmp_path / "mlp.ckpt", weights_only=True)

    assert loaded.hparams == module.hparams
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(loaded(images), module(images))


def test_export_takes_any_batch_size() -> None:
    module = MLP(hidden_sizes=[6], batch_norm=True).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(
            module, (torch.randn(2, 1, 28, 28),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        ).module()

    images = torch.randn(7, 1, 28, 28)
    assert torch.allclose(exported(images), module(images), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_sizes": [8, 0]}, r"hidden_sizes must each be at least 1, but got hidden_sizes=\[8, 0\]"),
        ({"activation": "swish"}, "activation must be one of sigmoid, tanh, relu, gelu.*'swish'"),
        ({"dropout": 1.0}, r"dropout must be .* less than 1, but got dropout=1\.0"),
        ({"dropout": -0.1}, r"but got dropout=-0\.1"),
        ({"noise": -0.1}, r"noise must be a finite number of at least 0, but got noise=-0\.1"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"num_classes": 1}, "num_classes must be at least 2, but got num_classes=1"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**arguments)
