"""Whole steps of a stack's models, with gradients, metrics and optimizers, as one call; on a GPU as one launch.

A GPU computes a step of 64 small models faster than Python launches the operations of one. So after a few normal steps,
one is recorded as a CUDA graph and then replayed: the same operations on the same memory, in one launch. On a CPU,
gradients are replayed (replay.py) if possible.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from studies.acceleration.packing.stacked_module import Stack
from studies.acceleration.packing.stacked_optimizer import StackedOptimizer
from studies.acceleration.training.recorded_step import Computed
from studies.acceleration.training.replay import Replay, is_replayable

ADDED_AT_ONCE = 16  # steps whose outputs are summed at once, to save calls
WARM = 3  # steps before recording: libraries initialize in the first ones, which cannot be recorded

Batch = tuple[Tensor, ...]


class StackedSteps:
    """See the module docstring.

    Args:
        stack: the models' stack; their class has `summed` and `add_sums` (lightning_modules/interval_metrics.py).
        optimizers: the models', each after at least one step.

    Attributes:
        trouble: why no graph could be recorded, or None.

    Raises:
        ValueError: they cannot be stacked; the message says why.
    """

    def __init__(self, stack: Stack, optimizers: list[Optimizer]) -> None:
        self.stack = stack
        self._optimizer = StackedOptimizer(stack, optimizers)
        self._replay: Replay | None = None  # for the gradients
        if is_replayable(stack.modules[0]):
            weights, generators = list(stack.parameters.values()), stack.generators if stack.draws else []
            self._replay = Replay(self._differentiated, weights, generators)
        self._losses: Tensor | None = None  # losses of the last step, (K,)
        self._sums: Tensor | None = None  # since `begin`, (K, N)
        self._outputs: list[Batch] = []  # of steps that are not summed yet
        self._taken = 0
        self._warm = 0  # warm-up steps taken
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Batch = ()  # the graph's input buffers
        self._gradients: dict[str, Tensor | None] = {}  # the graph's gradients
        self.trouble: str | None = None

    def is_intact(self, stack: Stack, optimizers: list[Optimizer]) -> bool:
        """Whether these are still that stack's optimizers, with their states stacked here."""
        return self._optimizer.is_intact(stack, optimizers)

    def invalidate(self) -> None:
        """Re-verifies the recorded step before replaying it in a new epoch."""
        if self._replay is not None:
            self._replay.invalidate()
        if self.stack.draws:  # the graph contains the dropout rates, which may have changed
            self._forget()

    def begin(self) -> None:
        """Synchronizes with the models and their optimizers, which must have taken equally many steps."""
        self._optimizer.begin()
        self._taken = 0
        self._outputs.clear()
        if self._sums is not None:
            self._sums.zero_()

    def take(self, batch: Batch, rates_change: bool = False) -> None:
        """Takes a step of all models.

        Args:
            batch: tensors (K, B, ...).
            rates_change: whether learning rates may have changed since the last step.
        """
        if rates_change and self._optimizer.read_rates():
            self._forget()
        if self._graph is not None and self._fits(batch):
            for mine, given in zip(self._inputs, batch, strict=True):
                mine.copy_(given)
            self._graph.replay()
            self.stack.gradients.update(self._gradients)
        elif not batch[0].is_cuda or self.trouble is not None or self._graph is not None:
            self._step(batch)
        elif self._warm < WARM:
            self._warm += 1
            self._aside(batch)
        else:
            self._record(batch)
            self.take(batch)
            return
        self._taken += 1

    def end(self) -> tuple[list[Tensor], list[Tensor]]:
        """Updates the models' optimizers.

        Returns:
            Each model's loss of the last step, (), and its sums since `begin`, (N,).
        """
        if self._outputs:
            self._add_up()
        assert self._losses is not None and self._sums is not None
        self._optimizer.end(self._taken)
        self.stack.hand_out()
        return list(self._losses.clone().unbind(0)), list(self._sums.clone().unbind(0))

    def _step(self, batch: Batch) -> None:
        computed = None if self._replay is None else self._replay(batch)
        if computed is None:
            losses, outputs = self.stack.differentiate(batch)
        else:
            losses, *others = computed.said
            outputs = tuple(others)
            self.stack.gradients = dict(zip(self.stack.owners, computed.gradients, strict=True))
        self._optimizer.step()
        self._losses = losses if self._losses is None else self._losses.copy_(losses)
        if self._outputs and any(now.shape != kept.shape for now, kept in zip(outputs, self._outputs[0], strict=True)):
            self._add_up()
        self._outputs.append(outputs)
        if len(self._outputs) == ADDED_AT_ONCE or batch[0].is_cuda:  # a graph must include the summation
            self._add_up()

    def _differentiated(self, batch: Batch) -> Computed:
        losses, outputs = self.stack.differentiate(batch)
        return Computed((losses, *outputs), [self.stack.gradients[name] for name in self.stack.owners])

    @torch.no_grad()
    def _add_up(self) -> None:
        sums = self.stack.summed(tuple(torch.cat(values, dim=1) for values in zip(*self._outputs, strict=True)))
        self._sums = sums.clone() if self._sums is None else self._sums.add_(sums)
        self._outputs.clear()

    def _aside(self, batch: Batch) -> None:
        """Takes a step on a side stream, as required before recording."""
        stream = torch.cuda.Stream(batch[0].device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._step(batch)
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, batch: Batch) -> None:
        graph = torch.cuda.CUDAGraph()
        inputs = tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in batch)
        try:
            for generator in self.stack.generators if self.stack.draws else []:
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread queries the GPU's memory
                self._step(inputs)
        except RuntimeError as error:  # an operation that cannot be recorded: nothing was computed
            self.trouble = " ".join(str(error).split())[:200]
            self._outputs.clear()  # outputs of the step that was not computed
            return
        self._graph, self._inputs, self._gradients = graph, inputs, dict(self.stack.gradients)

    def _fits(self, batch: Batch) -> bool:
        return all(
            mine.shape == given.shape and mine.dtype == given.dtype
            for mine, given in zip(self._inputs, batch, strict=True)
        )

    def _forget(self) -> None:
        self._graph, self._inputs, self._gradients, self._warm = None, (), {}, 0
