"""Packed trials: each runs its own `trial.run` in a greenlet, and their plain steps are taken together.

A greenlet is a call that can be suspended and resumed: a trial runs as if it were alone until it reaches steps that do
nothing but train (epoch_loop.py), and waits there. When all trials wait, this file takes the next block of those steps
for all of them on stacked weights (stacked_module.py), and each continues by itself: it logs, validates, saves, is
pruned or stopped, and fails, independently. A trial's random states and log.txt are switched in with its turn.

All trials run on one thread: with one thread each, each would have its own OpenMP threads, which, outnumbering the
cores, sleep between operations and have to be woken for each, making small operations several times slower.
"""

from __future__ import annotations

import math
import os
import random
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from studies.acceleration.packing.stacked_module import Stack, sums_suffice
from studies.acceleration.packing.stacked_optimizer import OptionsChanged
from studies.acceleration.packing.stacked_steps import StackedSteps
from studies.acceleration.training.epoch_loop import PlainStep, batches_of, speed_up
from studies.acceleration.training.malloc import keep_freed_memory
from studies.protocol.channel import Channel
from studies.protocol.output_log import open_output_log
from studies.protocol.trial_spec import TrialSpec
from studies.trial import run as trial

BLOCK = 64  # maximum steps before a trial checks the clock and stop requests
AT_ONCE = {"cuda": 2**29, "cpu": 2**25}  # prefetch budget in bytes; small on CPU so that batches stay in cache


def run_packed(specs: list[TrialSpec], channels: list[Channel]) -> None:
    """Runs several trials to completion in this process."""
    keep_freed_memory()
    Pack(specs, channels).run()


class Pack:
    """Trials of one shape (studies/executors/pack_groups.py); see the file's docstring.

    Args:
        specs: the trials'.
        channels: to the driver, one per trial.
    """

    def __init__(self, specs: list[TrialSpec], channels: list[Channel]) -> None:
        self.members = [Member(spec, channel) for spec, channel in zip(specs, channels, strict=True)]
        self._stack: Stack | None = None
        self._steps: StackedSteps | None = None  # of that stack; None: each trial steps its own optimizer
        self._epoch: list[PlainStep] = []  # the members' PlainSteps, which are new in each epoch
        self._apart = False  # whether steps cannot be taken together
        self._whole = True  # whether whole steps are taken together, not only gradients
        self._told = False  # whether a slow path was reported

    def run(self) -> None:
        """Runs all trials to completion; each ending is reported on its own channel."""
        live = self.members
        while live:
            for member in live:
                if not member.waits:
                    member.resume()
            live = [member for member in live if member.waits]
            if len(live) == 1 or self._apart:
                for member in live:
                    member.step_alone(math.inf if len(live) == 1 else BLOCK)
            elif live:
                self._take_steps(live)

    def _take_steps(self, members: list[Member]) -> None:
        """Takes a block of steps for all members."""
        modules = [member.step.module for member in members]
        stack = self._stack
        try:
            if stack is None or stack.modules != modules or not stack.is_intact():
                stack = self._stack = Stack(modules)
                self._steps = None
        except ValueError as error:
            self._give_up(members, error)
            return
        generators = stack.generators if stack.draws else []
        for member, generator in zip(members, generators, strict=False):
            member.lend_random_state(generator)
        count = min(BLOCK, *(member.wanted for member in members))
        steps = self._steps_of(stack, members)
        if steps is not None:
            self._take_at_once(steps, members, count)
        else:
            self._take_one_by_one(stack, members, count)
        for member, generator in zip(members, generators, strict=False):
            member.take_random_state(generator)
        for member in members:
            member.waits = False

    def _take_one_by_one(self, stack: Stack, members: list[Member], count: int) -> None:
        """Computes gradients together; each member then takes its own step."""
        for left in reversed(range(count)):
            for member in members:
                member.begin()
            try:
                losses, outputs = stack.learn([member.batch for member in members])
            except Exception as error:  # out of memory, or cannot be mapped: no member has stepped yet
                self._give_up(members, error)
                break
            for member, loss, said in zip(members, losses, outputs, strict=True):
                member.finish(loss, said)
                if left:
                    member.end_step()
            if any(member.must_stop for member in members):
                break

    def _steps_of(self, stack: Stack, members: list[Member]) -> StackedSteps | None:
        """The StackedSteps that take whole steps for all members, if possible."""
        if not (self._whole and all(member.can_skip for member in members)):
            return None
        if len({member.step.module.global_step for member in members}) > 1:
            return None
        optimizers = [member.step.optimizer for member in members]
        try:
            if self._steps is None or not self._steps.is_intact(stack, optimizers):
                self._steps = StackedSteps(stack, optimizers)
        except ValueError:
            return None
        epoch = [member.step for member in members]
        if epoch != self._epoch:
            self._epoch = epoch
            self._steps.invalidate()
        return self._steps

    def _take_at_once(self, steps: StackedSteps, members: list[Member], count: int) -> None:
        is_scheduled = any(member.step.is_scheduled for member in members)
        done = 0
        last: tuple[Tensor, ...] = ()
        try:
            steps.begin()
            for batch in _ahead([member.batches for member in members], count, members[0].step.device):
                steps.take(batch, is_scheduled)
                done, last = done + 1, batch
                if is_scheduled:
                    for member in members:
                        member.step.update_schedules(member.step.next_index + done - 1)
        except OptionsChanged:
            self._whole = False
        except Exception as error:  # out of memory, shapes, or cannot be mapped: the step was not taken
            self._give_up(members, error)
        if steps.trouble is not None and not self._told:
            self._told = True
            for member in members:
                member.complain(f"each step's operations are launched one by one: {steps.trouble}")
        if done:
            losses, sums = steps.end()
            for place, (member, loss, summed) in enumerate(zip(members, losses, sums, strict=True)):
                member.skip(done, loss, summed, tuple(values[place] for values in last))

    def _give_up(self, members: list[Member], error: Exception) -> None:
        self._apart, self._stack = True, None
        for member in members:
            member.complain(f"not packed, so it trains alone: {type(error).__name__}: {error}")
            member.waits = False


def _ahead(passes: list[Any], count: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yields the next `count` batches of all trials: tensors (K, B, ...) on the models' device.

    Batches of many steps are gathered at once, on the data's device.
    """
    gather = passes[0].upcoming
    first = gather(passes, 1)
    at_once = max(1, AT_ONCE.get(first[0].device.type, 2**25) // sum(tensor.nbytes for tensor in first))
    yield tuple(tensor[0].to(device) for tensor in first)
    for start in range(1, count, at_once):
        ahead = gather(passes, min(at_once, count - start), start)
        yield from zip(*(tensor.to(device).unbind(0) for tensor in ahead), strict=True)


class Member:
    """One trial of a pack.

    Attributes:
        waits: it has reached plain steps and waits for the others to take them together.
        wanted: number of plain steps that come next.
        batch: batch of the current step.
    """

    def __init__(self, spec: TrialSpec, channel: Channel) -> None:
        self.spec, self._channel = spec, channel
        self._greenlet = greenlet(self._run)
        self._states = _RandomStates()
        self.waits, self.wanted = False, 0
        self.batch: Any = None
        self._index: int | None = None  # index of that batch; None: no step is in progress
        self._taken = 0  # steps since it started waiting
        self._together = 0  # total steps taken together
        self._whole = False  # whether some were taken as whole steps
        self._alone: float = 0  # steps to take alone before waiting again
        self._error: Exception | None = None

    def resume(self) -> None:
        """Resumes the trial until it waits for the others or has ended."""
        self._states.restore()
        with os.fdopen(open_output_log(self.spec.folder), "ab", buffering=0) as log:
            for output in (1, 2):
                os.dup2(log.fileno(), output)
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        for output_stream in (sys.stdout, sys.stderr):
            output_stream.flush()
        self._states = _RandomStates()

    def _run(self) -> None:
        try:
            status = trial.run(self.spec, self._channel, partial(speed_up, batched_step=self._wait))
            how = " as a whole" if self._whole else ""
            print(f"{self._together} steps were taken together with other trials{how}", flush=True)
            self._channel.leave(status)
        except Exception:  # the other trials continue; the driver learns of it when the process exits
            traceback.print_exc()

    def step_alone(self, steps: float) -> None:
        """Lets it take this many steps alone."""
        self._alone, self.waits = steps, False

    def _wait(self, step: PlainStep, fetcher: Any, wanted: int) -> int:
        """Waits until plain steps were taken together; returns how many. Called by the trial's loop."""
        if self._alone > 0:
            self._alone -= 1
            return 0
        self.step, self._fetcher, self.wanted, self._taken = step, fetcher, wanted, 0
        self.waits = True
        self._greenlet.parent.switch()
        if self._error is not None:
            raise self._error
        self._together += self._taken
        if self._index is not None:  # it was begun, but could not be taken together
            outputs = self.step.learn(self.batch, self._index)
            self.step.step()
            self._finish(outputs)
        return self._taken

    def begin(self) -> None:
        self.batch, self._index = self.step.begin(self._fetcher)

    def finish(self, loss: Tensor, outputs: tuple[Tensor, ...]) -> None:
        """Takes the step with gradients that were computed together."""
        try:
            self.step.adopt()
            self.step.step()
            self.step.module.add_training(*outputs)
            self._finish({"loss": loss})
        except Exception as error:  # to be raised in this trial's own greenlet
            self._error = error

    def _finish(self, outputs: Any) -> None:
        index, self._index = self._index, None
        assert index is not None
        self.step.finish(outputs, self.batch, index)
        self._taken += 1

    @property
    def batches(self) -> Any:
        """The source of its batches if several can be fetched at once; else None."""
        return batches_of(self._fetcher)

    @property
    def can_skip(self) -> bool:
        """Whether whole steps can be taken for it."""
        step = self.step
        return step.is_silent and not step.clips and sums_suffice(step.module) and self.batches is not None

    def skip(self, count: int, loss: Tensor, sums: Tensor, batch: tuple[Tensor, ...]) -> None:
        """Accounts for `count` steps taken for it, with the last one's loss and batch, and the sums of all."""
        self.step.module.add_sums(sums)
        self.step.skip(self._fetcher, count, loss, batch)
        self._taken, self._whole = count, True

    def end_step(self) -> None:
        """Ends a step other than the last of a block, whose end is left to the trial itself."""
        if self._error is None:
            try:
                self.step.end_quietly()
            except Exception as error:
                self._error = error

    @property
    def must_stop(self) -> bool:
        return self._error is not None or bool(self.step.module.trainer.should_stop)

    def lend_random_state(self, generator: torch.Generator) -> None:
        """Sets a generator to the state of this trial's own."""
        generator.set_state(self._states.of_device[generator.device.type][generator.device.index or 0])

    def take_random_state(self, generator: torch.Generator) -> None:
        """Sets this trial's own generator to the state of a generator."""
        self._states.of_device[generator.device.type][generator.device.index or 0] = generator.get_state()

    def complain(self, text: str) -> None:
        """Writes to its log why it uses a slower path."""
        with os.fdopen(open_output_log(self.spec.folder), "a") as log:
            log.write(f"Warning: {text}\n")


class _RandomStates:
    """The current states of all generators that a trial may draw from.

    In the generators' own formats: converting them for a file, like `random_states`, is too slow for each turn.
    """

    def __init__(self) -> None:
        self.python, self.numpy = random.getstate(), np.random.get_state()
        self.of_device = {"cpu": [torch.get_rng_state()]}
        self.of_device["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.of_device["cpu"][0])
        if self.of_device["cuda"]:
            torch.cuda.set_rng_state_all(self.of_device["cuda"])
