"""What the fingerprints of an epoch cost, as a share of the training: `fingerprints.py EXPERIMENT EPOCHS ...`.

Trains each experiment in this process, with acceleration, on one thread, and measures what
studies/trial/fingerprints.py and sample_order.py do in it. Both are CPU seconds, of this thread and of the process: on
a busy machine, wall time is mostly waiting. A first training, which imports, is not counted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.acceleration.training.epoch_loop import speed_up
from studies.config.experiment import load
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Fingerprint, Finished
from studies.protocol.trial_spec import TrialSpec
from studies.trial.fingerprints import Fingerprints
from studies.trial.run import run
from studies.trial.sample_order import SampleOrder


class Timed:
    """Replaces a method by one that adds up its seconds."""

    def __init__(self, cls: type, name: str) -> None:
        self.seconds = 0.0
        usual: Callable[..., Any] = getattr(cls, name)

        def timed(*given: Any) -> Any:
            began = time.thread_time()
            result = usual(*given)
            self.seconds += time.thread_time() - began
            return result

        setattr(cls, name, timed)


def main(name: str, epochs: int, hooks: list[Timed]) -> None:
    experiment = load(name)
    sections = {**experiment.sections, "trainer": {**experiment.sections["trainer"], "max_epochs": epochs}}
    metric = experiment.search.metric if experiment.search else None
    for hook in hooks:
        hook.seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        spec = TrialSpec(
            "run", sections, experiment.seed, folder, metric=metric, threads=1, search_path=experiment.search_path
        )
        spec.save()
        began = time.process_time()
        run(spec, Channel(EventWriter(Path(folder) / NAME)), speed_up)
        total = time.process_time() - began
        events = EventReader(Path(folder) / NAME).read()
    ending = events[-1]
    assert isinstance(ending, Finished), ending
    size = sum(len(event.to_json()) for event in events if isinstance(event, Fingerprint)) / epochs
    total, cost = ending.summary["fit_seconds"], sum(hook.seconds for hook in hooks)
    print(
        f"{name}: {total:.1f} s, fingerprints {1000 * cost / epochs:.2f} ms an epoch, {100 * cost / total:.2f}%,",
        end="",
    )
    print(f" {size:.0f} bytes of the log an epoch", flush=True)


if __name__ == "__main__":
    timed = [Timed(Fingerprints, "on_train_epoch_end"), Timed(SampleOrder, "drawn")]
    main("one_neuron", 1, timed)
    for experiment_name, count in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(experiment_name, int(count), timed)
