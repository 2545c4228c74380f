"""What the warm server imports, and draws, before it forks trials. Starts no thread and touches no GPU."""

import atexit
import contextlib
import functools
import gc
import io
import os

import torch
from lightning_fabric.utilities import registry
from lightning_fabric.utilities.cloud_io import get_filesystem

import datamodules  # noqa: F401
import lightning_modules  # noqa: F401
import studies.acceleration.process_reuse
import studies.cli.main  # a child imports its parent's main script, which imports this
import studies.trial.preflight
import studies.trial.run
from studies.common import lightning_alias
from studies.executors.local import SAFE, SAFE_PATH
from studies.plots import classification as plots
from studies.plots import figure as figures
from studies.plots import registry as pictures  # noqa: F401

if os.environ.get(SAFE_PATH) == SAFE:
    del os.environ[SAFE_PATH]  # programs that the user's code starts find what lies beside them
lightning_alias.install()

with contextlib.suppress(ImportError, AttributeError):  # a trial says so
    import studies.acceleration.training.epoch_loop

# Fonts are found, shades mixed and caches filled at the first picture, and Pillow and PyTorch import at the first file
# that is saved: do so once, for all trials.
for figure in (
    plots.confusion_matrix([[10 * row + column for column in range(10)] for row in range(10)], list("0123456789")),
    plots.learning_curves({"train/loss": ([1, 2], [1.0, 0.5])}),
):
    figures.image_of(figure).save(io.BytesIO(), "png")
torch.save({}, io.BytesIO())
get_filesystem("")  # of local files, which Lightning saves through

# Each Trainer asks all installed packages whether they offer it callbacks, and each trial asks for versions: 10 ms.
registry.entry_points = functools.cache(registry.entry_points)  # type: ignore[assignment]
registry.entry_points(group="pytorch_lightning.callbacks_factory")  # asked, not called: that is for each trial to do
studies.trial.run.versions()
studies.acceleration.process_reuse.warning_caches()

# A trial's garbage collector need not look at a million objects that are here to stay, nor copy their pages by it.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # or else libraries complain of leaks when the server ends
