"""What the warm server imports, and draws, before it forks trials. Starts no thread and touches no GPU."""

import atexit
import gc
import os

from studies.common import lightning_alias
from studies.executors import worker
from studies.executors.processes import SAFE, SAFE_PATH

if os.environ.get(SAFE_PATH) == SAFE:
    del os.environ[SAFE_PATH]  # programs that the user's code starts find what lies beside them
lightning_alias.install()
worker.warm_up()

# A trial's garbage collector need not look at a million objects that are here to stay, nor copy their pages by it.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # or else libraries complain of leaks when the server ends
