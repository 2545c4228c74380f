"""The samples on which two trained models disagree, for `harness diff`: finds both models and asks a warm process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from studies.inference.opened_model import opened, payload_of
from studies.inference.trained_model import find


def disagreement(
    runs: tuple[str, str], names: tuple[str, str], split: str, picture: Path, trust: bool
) -> dict[str, Any]:
    """Predicts the first run's data with both models, and draws samples on which they disagree.

    Args:
        runs: their ids.
        names: of the models in the picture.
        split: val or test.
        picture: the file to write; it is not written if they agree on all samples.

    Returns:
        See disagreement_worker.disagree.

    Raises:
        ValueError: in one line: a run has no model, or the models cannot be asked for the same data.
    """
    with tempfile.TemporaryDirectory(prefix="harness-diff-") as scratch, opened(runs[0], "diff", trust) as one:
        other = find(runs[1], one.state_folder, Path(scratch), trust)
        phase = f"importing torch, then predicting the {split} set with both models"
        more = {"other": payload_of(other), "split": split, "names": list(names), "picture": str(picture.absolute())}
        try:
            return one.call("studies.inference.disagreement_worker:disagree", phase, **more)
        except RuntimeError as error:
            raise ValueError(f"the models crashed: {error}") from error
