"""The learning rate finder and the batch size finder, and what is made of Lightning's results."""

import math
from pathlib import Path
from typing import Any

import pytest

from studies.config.experiment import load
from studies.config.yaml_io import dump_yaml
from studies.trial.tuning import BETA, find_batch_size, find_learning_rate, suggested, unbiased

NETS = '''
import torch
from pytorch_lightning import LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Plain(LightningModule):
    """Its loaders come from a batch size of its own."""

    def __init__(self, batch_size: int = 4, flat: bool = False):
        super().__init__()
        self.batch_size, self.flat = batch_size, flat
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        if len(batch[0]) > 16:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), 3 * batch[0])
        return loss * 0 + 1 if self.flat else loss

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(64, 1)), self.batch_size)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Two(Plain):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.SGD(self.parameters(), 0.1)]


class Manual(Plain):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
'''


def payload(folder: Path, text: str, **how: Any) -> dict[str, Any]:
    (folder / "tuned_nets.py").write_text(NETS)
    (folder / "tuned.yaml").write_text(text)
    experiment = load(str(folder / "tuned.yaml"))
    sections = dump_yaml(experiment.sections)
    return {"experiment": sections, "seed": 0, "threads": 1, "search_path": experiment.search_path, **how}


RANGE = {"low": 1e-4, "high": 10.0, "steps": 60}
SGD = "optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}\n"


def test_a_learning_rate_of_an_optimizer_section(tmp_path: Path) -> None:
    text = f"model: {{class_path: tuned_nets.Plain}}\ntrainer: {{max_epochs: 1}}\n{SGD}"
    found = find_learning_rate(payload(tmp_path, text, **RANGE))
    assert found["parameter"] == "optimizer.lr"
    assert len(found["losses"]) == len(found["learning_rates"]) >= 40, "though an epoch has 16 batches"
    assert 0.02 < found["suggestion"] < 2, "a quadratic that diverges above 0.5 or so"


def test_without_a_fall_there_is_no_suggestion(tmp_path: Path) -> None:
    text = f"model: {{class_path: tuned_nets.Plain, init_args: {{flat: true}}}}\n{SGD}"
    found = find_learning_rate(payload(tmp_path, text, **RANGE))
    assert found["suggestion"] is None
    assert found["losses"] == pytest.approx([1.0] * 60), "Lightning's average of a constant is corrected to it"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {class_path: tuned_nets.Plain}", "lr needs a parameter model.learning_rate, model.lr or optimizer.lr"),
        (f"model: {{class_path: tuned_nets.Manual}}\n{SGD}", "Manual optimizes manually"),
        ("model: {class_path: tuned_nets.Plain, init_args: {bath_size: 3}}", "did you mean model.batch_size?"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    answer = find_learning_rate(payload(tmp_path, text, **RANGE))
    assert said in answer["error"] and set(answer) == {"error"}


def test_several_optimizers_are_refused_by_lightning(tmp_path: Path) -> None:
    (tmp_path / "tuned_two.py").write_text(
        "from tuned_nets import Two as Base\n\n\nclass Two(Base):\n    def __init__(self, lr: float = 0.1):\n"
        "        super().__init__()\n        self.automatic_optimization = True\n"
    )
    answer = find_learning_rate(payload(tmp_path, "model: {class_path: tuned_two.Two}", **RANGE))
    assert "optimizers" in answer["error"] and "\n" not in answer["error"]


@pytest.mark.slow
def test_a_batch_size_that_fits(tmp_path: Path) -> None:
    found = find_batch_size(payload(tmp_path, "model: {class_path: tuned_nets.Plain}", largest=1024))
    assert found == {"parameter": "model.batch_size", "batch_size": 16, "holds_all_data": False, "device": "cpu"}
    found = find_batch_size(payload(tmp_path, "model: {class_path: tuned_nets.Plain}", largest=8))
    assert found["batch_size"] == 8, "the largest is tried, not only reached"


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    rates = [10 ** (-6 + 6 * step / 99) for step in range(100)]
    losses = [2 - 1 / (1 + math.exp(-4 * (math.log10(rate) + 2.5))) + (rate > 0.3) * 5 * rate for rate in rates]
    assert suggested(rates, losses) == pytest.approx(10**-2.5, rel=0.15)
    assert suggested(rates, [*losses[:90], *[math.nan] * 10]) == pytest.approx(10**-2.5, rel=0.15)
    assert suggested(rates, list(range(100))) is None
    assert suggested(rates[:19], losses[:19]) is None


def test_averages_are_corrected_for_their_start() -> None:
    average, stored = 0.0, []
    for step in range(1, 40):
        average = BETA * average + (1 - BETA) * 3.0
        stored.append(average / (1 - BETA ** (step + 1)))  # as Lightning does
    assert stored[0] < 1.6 and unbiased(stored) == pytest.approx([3.0] * 39)
