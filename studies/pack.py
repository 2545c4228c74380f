"""Trials that train together: each its own `trial.run` in a greenlet of its own, their plain steps taken as one.

A greenlet is a call that can be left and taken up again: a trial runs, as if it were alone, until it comes to steps
that do nothing but train (studies/fast_loop.py), and there it waits. When all wait there, this file takes the next
block of those steps for all of them on stacked weights (studies/stack.py), and each goes on by itself: it logs,
validates, saves, is pruned or stopped, and fails, alone. With its turn a trial gets its own random states and log.txt.

All run on one thread: with a thread each, each has its own OpenMP threads, and since those are more than there are
cores they sleep between operations and have to be woken for each, which makes small operations several times slower.
"""

from __future__ import annotations

import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from studies import trial
from studies.checkpoints import random_states, restore_random_states
from studies.fast_loop import PlainStep
from studies.link import Link
from studies.messages import TrialSpec
from studies.stack import Stack

BLOCK = 64  # steps at most before a trial looks at the clock and hears whether to stop


class Pack:
    """Trials of one shape (studies/executors/packs.py); see the file's docstring.

    Args:
        specs: of the trials.
        links: to the driver, one per trial.
    """

    def __init__(self, specs: list[TrialSpec], links: list[Link]) -> None:
        self.members = [Member(spec, link) for spec, link in zip(specs, links, strict=True)]
        self._stack: Stack | None = None
        self._apart = False  # the steps cannot be taken together

    def run(self) -> None:
        """Runs all trials to their ends, which their links are told one by one."""
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
                self._stack = stack = Stack(modules)
        except ValueError as error:
            self._give_up(members, error)
            return
        generators = stack.generators if stack.draws else []
        for member, generator in zip(members, generators, strict=False):
            member.lend_random_state(generator)
        for left in reversed(range(min(BLOCK, *(member.wanted for member in members)))):
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
        for member, generator in zip(members, generators, strict=False):
            member.take_random_state(generator)
        for member in members:
            member.waits = False

    def _give_up(self, members: list[Member], error: Exception) -> None:
        self._apart, self._stack = True, None
        for member in members:
            member.complain(error)
            member.waits = False


class Member:
    """One trial of a pack.

    Attributes:
        waits: it is at plain steps and waits for the others, so that they are taken together.
        wanted: how many of them come next.
        batch: of the step that is being taken.
    """

    def __init__(self, spec: TrialSpec, link: Link) -> None:
        self.spec, self._link = spec, link
        self._greenlet = greenlet(self._run)
        self._states = random_states()
        self.waits, self.wanted = False, 0
        self.batch: Any = None
        self._index: int | None = None  # of that batch; None: no step is under way
        self._taken = 0  # steps since it came to wait
        self._together = 0  # steps in all
        self._alone: float = 0  # steps to take by itself before it waits again
        self._error: Exception | None = None

    def go_on(self) -> None:
        """Gives it the turn, until it waits for the others or has ended."""
        restore_random_states(self._states)
        with open(Path(self.spec.folder) / "log.txt", "ab", buffering=0) as log:
            for output in (1, 2):
                os.dup2(log.fileno(), output)
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        for output_stream in (sys.stdout, sys.stderr):
            output_stream.flush()
        self._states = random_states()

    def _run(self) -> None:
        try:
            status = trial.run(self.spec, self._link, self._wait)
            print(f"{self._together} steps were taken together with other trials", flush=True)
            self._link.leave(status)
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
        cuda = generator.device.type == "cuda"
        generator.set_state(self._states["cuda"][generator.device.index or 0] if cuda else self._states["torch"])

    def take_random_state(self, generator: torch.Generator) -> None:
        """The other way round."""
        if generator.device.type == "cuda":
            self._states["cuda"][generator.device.index or 0] = generator.get_state()
        else:
            self._states["torch"] = generator.get_state()

    def complain(self, error: Exception) -> None:
        """Writes into its log why it trains by itself."""
        with open(Path(self.spec.folder) / "log.txt", "a") as log:
            log.write(f"Warning: not packed, so it trains by itself: {type(error).__name__}: {error}\n")
