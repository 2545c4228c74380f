"""Trials that train together: each its own `trial.run` in a greenlet of its own, their plain steps taken as one.

A greenlet is a call that can be left and taken up again: a trial runs, as if it were alone, until it comes to steps
that do nothing but train (epoch_loop.py), and there it waits. When all wait there, this file takes the next
block of those steps for all of them on stacked weights (stacked_module.py), and each goes on by itself: it logs,
validates, saves, is pruned or stopped, and fails, alone. With its turn a trial gets its own random states and log.txt.

All run on one thread: with a thread each, each has its own OpenMP threads, and since those are more than there are
cores they sleep between operations and have to be woken for each, which makes small operations several times slower.
"""

from __future__ import annotations

import math
import os
import random
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
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
from studies.protocol.trial_spec import TrialSpec
from studies.trial import run as trial

BLOCK = 64  # steps at most before a trial looks at the clock and hears whether to stop
AT_ONCE = {"cuda": 2**29, "cpu": 2**25}  # bytes of batches that lie ready; on a CPU those in the caches are near


def run_packed(specs: list[TrialSpec], channels: list[Channel]) -> None:
    """Runs several trials in this process to their ends."""
    keep_freed_memory()
    Pack(specs, channels).run()


class Pack:
    """Trials of one shape (studies/executors/pack_groups.py); see the file's docstring.

    Args:
        specs: of the trials.
        channels: to the driver, one per trial.
    """

    def __init__(self, specs: list[TrialSpec], channels: list[Channel]) -> None:
        self.members = [Member(spec, channel) for spec, channel in zip(specs, channels, strict=True)]
        self._stack: Stack | None = None
        self._steps: StackedSteps | None = None  # of that stack; None: each takes the steps of its optimizer itself
        self._epoch: list[PlainStep] = []  # the members' steps, which are other objects in another epoch
        self._apart = False  # the steps cannot be taken together
        self._whole = True  # whole steps of theirs may be taken, and not their gradients alone
        self._told = False  # of what makes them slower than they could be

    def run(self) -> None:
        """Runs all trials to their ends, which their channels are told one by one."""
        live = self.members
        while live:
            for member in live:
                if not member.waits:
                    member.go_on()
            live = [member for member in live if member.waits]
            if len(live) == 1 or self._apart:
                for member in live:
                    member.go_alone(math.inf if len(live) == 1 else BLOCK)
            elif live:
                self._take_steps(live)

    def _take_steps(self, members: list[Member]) -> None:
        """A block of steps for all of them."""
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
        """Computes the gradients of each step together, and has each take it."""
        for left in reversed(range(count)):
            for member in members:
                member.begin()
            try:
                losses, outputs = stack.learn([member.batch for member in members])
            except Exception as error:  # memory, or an operation that cannot be mapped: nobody has stepped yet
                self._give_up(members, error)
                break
            for member, loss, said in zip(members, losses, outputs, strict=True):
                member.finish(loss, said)
                if left:
                    member.end_step()
            if any(member.must_stop for member in members):
                break

    def _steps_of(self, stack: Stack, members: list[Member]) -> StackedSteps | None:
        """What takes whole steps for all, if that can be."""
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
                        member.step.go_on_with_schedules(member.step.next_index + done - 1)
        except OptionsChanged:
            self._whole = False
        except Exception as error:  # memory, shapes, or an operation that cannot be mapped: this step is nobody's
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
            member.complain(f"not packed, so it trains by itself: {type(error).__name__}: {error}")
            member.waits = False


def _ahead(passes: list[Any], count: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """So many batches that come next, each of all trials: tensors (K, B, ...) on the device of their models.

    Those of many steps are gathered at once, where the data lies.
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
        waits: it is at plain steps and waits for the others, so that they are taken together.
        wanted: how many of them come next.
        batch: of the step that is being taken.
    """

    def __init__(self, spec: TrialSpec, channel: Channel) -> None:
        self.spec, self._channel = spec, channel
        self._greenlet = greenlet(self._run)
        self._states = _RandomStates()
        self.waits, self.wanted = False, 0
        self.batch: Any = None
        self._index: int | None = None  # of that batch; None: no step is under way
        self._taken = 0  # steps since it came to wait
        self._together = 0  # steps in all
        self._whole = False  # some of those were another's work as a whole
        self._alone: float = 0  # steps to take by itself before it waits again
        self._error: Exception | None = None

    def go_on(self) -> None:
        """Gives it the turn, until it waits for the others or has ended."""
        self._states.restore()
        with open(Path(self.spec.folder) / "log.txt", "ab", buffering=0) as log:
            for output in (1, 2):
                os.dup2(log.fileno(), output)
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        for output_stream in (sys.stdout, sys.stderr):
            output_stream.flush()
        self._states = _RandomStates()

    def _run(self) -> None:
        try:
            status = trial.run(self.spec, self._channel, partial(speed_up, together=self._wait))
            how = " as a whole" if self._whole else ""
            print(f"{self._together} steps were taken together with other trials{how}", flush=True)
            self._channel.leave(status)
        except Exception:  # the others' trials go on; the driver hears of this one when their process ends
            traceback.print_exc()

    def go_alone(self, steps: float) -> None:
        """Lets it take so many steps by itself."""
        self._alone, self.waits = steps, False

    def _wait(self, step: PlainStep, fetcher: Any, wanted: int) -> int:
        """Waits until plain steps have been taken together; returns how many. Called by the trial, as its loop does."""
        if self._alone > 0:
            self._alone -= 1
            return 0
        self.step, self._fetcher, self.wanted, self._taken = step, fetcher, wanted, 0
        self.waits = True
        self._greenlet.parent.switch()
        if self._error is not None:
            raise self._error
        self._together += self._taken
        if self._index is not None:  # begun, and then it could not be taken together
            outputs = self.step.learn(self.batch, self._index)
            self.step.step()
            self._finish(outputs)
        return self._taken

    def begin(self) -> None:
        self.batch, self._index = self.step.begin(self._fetcher)

    def finish(self, loss: Tensor, outputs: tuple[Tensor, ...]) -> None:
        """Takes the step along gradients that were computed together."""
        try:
            self.step.adopt()
            self.step.step()
            self.step.module.add_training(*outputs)
            self._finish({"loss": loss})
        except Exception as error:  # this trial's own, to be raised in its own greenlet
            self._error = error

    def _finish(self, outputs: Any) -> None:
        index, self._index = self._index, None
        assert index is not None
        self.step.finish(outputs, self.batch, index)
        self._taken += 1

    @property
    def batches(self) -> Any:
        """What its batches come from, where several can be had at once; else None."""
        return batches_of(self._fetcher)

    @property
    def can_skip(self) -> bool:
        """Whether its steps can be another's work as a whole."""
        step = self.step
        return step.is_silent and not step.clips and sums_suffice(step.module) and self.batches is not None

    def skip(self, count: int, loss: Tensor, sums: Tensor, batch: tuple[Tensor, ...]) -> None:
        """Counts so many steps as its own, with the last one's loss and batch and all their sums."""
        self.step.module.add_sums(sums)
        self.step.skip(self._fetcher, count, loss, batch)
        self._taken, self._whole = count, True

    def end_step(self) -> None:
        """Ends a step that is not the last of a block, whose end is left to the trial itself."""
        if self._error is None:
            try:
                self.step.end_quietly()
            except Exception as error:
                self._error = error

    @property
    def must_stop(self) -> bool:
        return self._error is not None or bool(self.step.module.trainer.should_stop)

    def lend_random_state(self, generator: torch.Generator) -> None:
        """Lets a generator go on where this trial's own stands."""
        generator.set_state(self._states.of_device[generator.device.type][generator.device.index or 0])

    def take_random_state(self, generator: torch.Generator) -> None:
        """The other way round."""
        self._states.of_device[generator.device.type][generator.device.index or 0] = generator.get_state()

    def complain(self, text: str) -> None:
        """Writes into its log what makes it slower than it could be."""
        with open(Path(self.spec.folder) / "log.txt", "a") as log:
            log.write(f"Warning: {text}\n")


class _RandomStates:
    """Of all generators that a trial may draw from, as they are now.

    As the generators give them: `checkpoints.random_states` makes them fit for a file, too long a work for each turn.
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
