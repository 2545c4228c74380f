"""Names of parameters in other programs, for hints: --lr is --model.learning_rate here."""

USUAL = {
    "epochs": "trainer.max_epochs",
    "max-epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "max-steps": "trainer.max_steps",
    "devices": "trainer.devices",
    "gpus": "trainer.devices",
    "accelerator": "trainer.accelerator",
    "precision": "trainer.precision",
    "lr": "model.learning_rate",
    "learning-rate": "model.learning_rate",
    "batch-size": "data.batch_size",
}
