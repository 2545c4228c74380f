"""What the warm server imports before it forks trials. Starts no thread and touches no GPU."""

import datamodules  # noqa: F401
import lightning_modules  # noqa: F401
import studies.rehearsal
import studies.trial  # noqa: F401
from studies import plots  # noqa: F401
