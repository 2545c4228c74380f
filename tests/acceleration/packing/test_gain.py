"""The measured gain of packing, or why it is impossible."""

from typing import Any

from test_preflight import payload

from studies.acceleration.packing.gain import measure


def images(**arguments: Any) -> dict[str, Any]:
    """An MLP, which can be stacked, on in-memory data."""
    return payload(
        model__class_path="lightning_modules.MLP",
        model__hidden_sizes=[16],
        data__class_path="toy.ToyImages",
        pack=4,
        **arguments,
    )


def test_it_reports_the_gain_of_packing() -> None:
    report = measure(images())
    assert set(report) == {"over", "gain"} and report["gain"] > 0
    assert set(report["over"]) == {"optimizer", "learning_rate", "weight_decay", "schedule", "dropout"}


def test_it_reports_why_trials_cannot_be_packed() -> None:
    assert measure(images(trainer__devices=2))["why_not"].startswith("a trial on several devices")
    assert measure(payload(pack=2))["why_not"].startswith("DataLoader may draw from random states")
    toy = payload(pack=2, data__class_path="toy.ToyImages", model__class_path="toy.Unstackable")
    assert measure(toy)["why_not"].startswith("Unstackable does not declare how")
