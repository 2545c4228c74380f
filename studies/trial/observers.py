"""The callbacks that look at a training and report what they see, without a part in it."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule

from studies.protocol.channel import Channel
from studies.protocol.trial_spec import TrialSpec
from studies.trial.callbacks import ValidationSteps
from studies.trial.checkpointing import Checkpoints
from studies.trial.data_sets import DataSets
from studies.trial.fingerprints import Fingerprints
from studies.trial.validation_pictures import ValidationPictures


def observers(spec: TrialSpec, channel: Channel, module: LightningModule, checkpoints: Checkpoints) -> list[Callback]:
    """Validation steps, data sets, fingerprints and, for a module that asks for them, pictures at validation."""
    found: list[Callback] = [ValidationSteps(), DataSets(channel, spec.experiment.get("data"), spec.data_sets)]
    found.append(Fingerprints(channel, checkpoints.resume_point))
    if getattr(module, "pictures_at_validation", False) and hasattr(module, "pictures"):
        found.append(ValidationPictures())
    return found
