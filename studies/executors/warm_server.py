"""Imports and warm-up of the warm server before it forks trials. Starts no thread and touches no GPU."""

import atexit
import gc
import os

from studies.common import lightning_alias
from studies.executors import worker
from studies.executors.processes import SAFE, SAFE_PATH

if os.environ.get(SAFE_PATH) == SAFE:
    del os.environ[SAFE_PATH]  # programs started by user code may import from their own folder
lightning_alias.install()
worker.warm_up()

# Spares the trials' garbage collectors a million permanent objects, and copying their pages.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # else libraries report leaks when the server exits
