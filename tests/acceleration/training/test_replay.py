"""Replayed steps compared with autograd: bit-identical; and what is not replayed."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.in_memory_loader import InMemoryLoader
from lightning_modules import CNN, MLP
from studies.acceleration.training import epoch_loop as fast_loop
from studies.acceleration.training.epoch_loop import speed_up
from studies.acceleration.training.optimizer_step import backward
from studies.acceleration.training.replay import RECORDED, Replay, ReplayedModule, is_replayable

FEATURES, CLASSES, BATCH = 6, 3, 8


def model(**arguments: Any) -> MLP:
    torch.manual_seed(0)
    return MLP(**{"hidden_sizes": [7, 5], "input_shape": [FEATURES], "num_classes": CLASSES, **arguments})


def batch(seed: int, size: int = BATCH, numbers: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, FEATURES, generator=generator)
    if numbers:
        return inputs, torch.randn(size, generator=generator)
    return inputs, torch.randint(CLASSES, (size,), generator=generator)


def gradients(module: Any) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters()]


def by_autograd(module: Any, of: Any) -> tuple[Tensor, list[Tensor]]:
    for parameter in module.parameters():
        parameter.grad = None
    loss, outputs = module.loss_and_outputs(of)
    module.add_training(*outputs)
    backward(loss)
    return loss.detach(), gradients(module)


def assert_equal(one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(one[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), max_size=3),
    activation=st.sampled_from(["relu", "tanh", "sigmoid", "gelu"]),
    dropout=st.sampled_from([0.0, 0.3]),
    kind=st.sampled_from(["classes", "two", "numbers"]),
    size=st.integers(1, 9),
)
def test_gradients_and_random_numbers_are_bit_identical_to_autograds(
    sizes: list[int], activation: Any, dropout: float, kind: str, size: int
) -> None:
    arguments: dict[str, Any] = {"hidden_sizes": sizes, "activation": activation, "dropout": dropout}
    if kind == "numbers":
        arguments["num_classes"] = None
    elif kind == "two":
        arguments |= {"num_classes": 2, "output": "softmax"}
    ours, theirs = model(**arguments), model(**arguments)
    replay = ReplayedModule(ours)
    batches = [batch(seed, size, kind == "numbers") for seed in range(6)]
    batches = [(inputs, targets.clamp(max=1) if kind == "two" else targets) for inputs, targets in batches]
    states = []
    for module, learn in ((ours, replay), (theirs, lambda each: by_autograd(theirs, each)[0])):
        torch.manual_seed(1)
        found = []
        for each in batches:
            loss = learn(each)
            assert loss is not None
            found.append((loss, gradients(module)))
            with torch.no_grad():  # the weights change between steps
                for parameter in module.parameters():
                    parameter -= 0.1 * parameter.grad
        states.append((found, torch.get_rng_state(), module._train_outputs))
    assert replay.replay._program is not None and not replay.replay.is_over, "it was replayed"
    (one, one_state, one_kept), (other, other_state, other_kept) = states
    for a, b in zip(one, other, strict=True):
        assert_equal(a, b)
    assert torch.equal(one_state, other_state)
    assert len(one_kept) == len(other_kept) == len(batches)
    for kept, expected in zip(one_kept, other_kept, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True)), "outputs of each step stay its own"


class Remembers(MLP):
    """Breaks its promise: its loss depends on the number of calls."""

    pure_loss = True
    asked = 0

    def loss_and_outputs(self, batch: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.asked += 1
        loss, outputs = super().loss_and_outputs(batch)
        return loss * self.asked, outputs


class DrawsByItself(MLP):
    pure_loss = True

    def forward(self, inputs: Tensor) -> Tensor:
        noise = torch.empty_like(inputs).bernoulli_(0.5, generator=self.generator)
        return super().forward(inputs * noise)


def draws_by_itself() -> MLP:
    module = DrawsByItself(hidden_sizes=[4], input_shape=[FEATURES], num_classes=CLASSES)
    object.__setattr__(module, "generator", torch.Generator().manual_seed(0))
    return module


class Changes(MLP):
    pure_loss = True

    def forward(self, inputs: Tensor) -> Tensor:
        self.network[-1].bias.detach().mul_(0.5)
        return super().forward(inputs)


class Inherits(MLP):
    pass


SMALL: dict[str, Any] = {"hidden_sizes": [4], "input_shape": [FEATURES], "num_classes": CLASSES}


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(batch_norm=True),
        draws_by_itself,
        lambda: Changes(**SMALL),
        lambda: Remembers(**SMALL),
        lambda: CNN(width=2, depth=1, image_shape=[1, 2, 3], num_classes=CLASSES),
    ],
    ids=[
        "running means",
        "a generator of its own",
        "weights changed in place",
        "counts its calls",
        "unknown operations",
    ],
)
def test_unreplayable_steps_use_autograd_and_are_computed_once(make: Callable[[], Any]) -> None:
    modules = []
    for _ in range(2):
        torch.manual_seed(0)
        modules.append(make())
    ours, theirs = modules
    replay = ReplayedModule(ours)
    for seed in range(RECORDED):
        inputs, targets = batch(seed)
        each = inputs.view(-1, 1, 2, 3) if isinstance(ours, CNN) else inputs, targets
        loss = replay(each)
        if loss is None:
            break
        assert_equal((loss, gradients(ours)), by_autograd(theirs, each))
        states = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)
    assert replay.replay.is_over and replay(each) is None


def test_another_batch_shape_and_moved_weights_use_autograd() -> None:
    module = model()
    replay = ReplayedModule(module)
    assert all(replay(batch(seed)) is not None for seed in range(RECORDED))
    assert replay.replay._program is not None
    before = gradients(module)
    assert replay(batch(2, size=BATCH - 1)) is None
    inputs, targets = batch(3)
    assert replay((inputs.double(), targets)) is None
    weight = next(module.parameters())
    weight.data = weight.data.clone()
    assert replay(batch(3)) is None
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(module), strict=True)), "nothing was done"


def test_modules_with_hooks_are_not_replayed() -> None:
    assert is_replayable(model())
    assert not is_replayable(Inherits(hidden_sizes=[4])), "a subclass has not promised anything itself"
    heard = model()
    heard.network[1].register_forward_hook(lambda *_: None)
    assert not is_replayable(heard)
    heard = model()
    heard.network[1].weight.register_hook(lambda gradient: gradient)
    assert not is_replayable(heard)
    heard = model()
    heard.network[1].weight.register_post_accumulate_grad_hook(lambda parameter: None)
    assert not is_replayable(heard)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not is_replayable(model())
    handle.remove()
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    debugged = is_replayable(model())
    sys.settrace(before)
    assert not debugged


class Listens(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("listens", [False, True])
def test_a_fit_is_bit_identical(monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    def weights(pays: int) -> tuple[list[Tensor], int, list[float]]:
        taken = []
        monkeypatch.setattr(fast_loop, "REPLAYS_PAY", pays)
        program = Replay.__call__
        monkeypatch.setattr(Replay, "__call__", lambda self, each: taken.append(1) or program(self, each))
        data = torch.Generator().manual_seed(0)
        tensors = torch.randn(60, FEATURES, generator=data), torch.randint(CLASSES, (60,), generator=data)
        loader = InMemoryLoader(tensors, BATCH, shuffle=True, drop_last=False)  # the last batch of an epoch is smaller
        module, listener = model(dropout=0.2), Listens()
        trainer = pl.Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=3,
            callbacks=[listener] if listens else [],
        )
        speed_up(trainer)
        torch.manual_seed(2)
        trainer.fit(module, loader, loader)
        monkeypatch.setattr(Replay, "__call__", program)
        metrics = [torch.as_tensor(value) for value in trainer.callback_metrics.values()]
        return [*module.parameters(), *metrics], len(taken), listener.losses

    plain, none, heard = weights(10**6)
    replayed, taken, _ = weights(2)
    assert none == 0 and (taken > 12) != listens, "who listens to each step is told of it by Lightning's own way"
    assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))
    assert len(heard) == (24 if listens else 0)


def test_a_later_epoch_reuses_the_recording_if_it_is_still_valid() -> None:
    ours, theirs = model(dropout=0.2), model(dropout=0.2)
    replay = ReplayedModule(ours)

    def assert_same_steps(seeds: range) -> None:
        states = []
        for module, learn in ((ours, replay), (theirs, lambda each: by_autograd(theirs, each)[0])):
            torch.manual_seed(seeds.start)
            states.append([(learn(batch(seed)), gradients(module)) for seed in seeds])
            states.append(torch.get_rng_state())
        for one, other in zip(states[0], states[2], strict=True):
            assert_equal(one, other)
        assert torch.equal(states[1], states[3])

    assert_same_steps(range(5))
    first = replay.replay._program
    replay.replay.invalidate()
    assert_same_steps(range(5, 10))
    assert replay.replay._program is first is not None and replay.is_of(ours) and not replay.is_of(theirs)
    for module in (ours, theirs):  # as a callback may do between epochs
        next(layer for layer in module.modules() if isinstance(layer, torch.nn.Dropout)).p = 0.6
    replay.replay.invalidate()
    assert_same_steps(range(10, 16))
    assert replay.replay._program not in (None, first), "recorded again"
    for module in (ours, theirs):
        module.network[1].weight.requires_grad_(False)
        module.network[1].weight.grad = None
    replay.replay.invalidate()
    for seed in range(16, 20):
        torch.manual_seed(seed)
        loss = replay(batch(seed))
        torch.manual_seed(seed)
        expected, _ = theirs.loss_and_outputs(batch(seed))
        assert loss is not None and torch.equal(loss, expected) and ours.network[1].weight.grad is None
    ours.network[1] = torch.nn.Linear(FEATURES, 7)
    assert not replay.is_of(ours)
