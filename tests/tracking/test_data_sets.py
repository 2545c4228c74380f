from __future__ import annotations

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from studies.protocol.events import DataSet
from studies.tracking.client import Tracking
from studies.tracking.data_sets import DataSetInfo, data_sets_of


def test_data_sets_are_inputs_of_a_run_once(home: Path, client: MlflowClient) -> None:
    tracking = Tracking(f"sqlite:///{home}/mlflow.db", home / "trials")
    run_id = tracking.start(tracking.experiment("toy"), "a", {}, {})
    train = DataSet("train", "Toy train", "0a1b2c3d", "toy.Data(points=3)", 32, 16, {"0": 20, "1": 12})
    for event in (train, train, DataSet("val", "Toy val" + "x" * 999, "1", "\0\ud800", None)):
        tracking.log(run_id, event)
        tracking.flush()  # a resumed trial sends them again
    inputs = {item.tags[0].value: item.dataset for item in client.get_run(run_id).inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation"}
    found = inputs["training"]
    assert (found.name, found.digest) == ("Toy train", "0a1b2c3d")
    profile = {"num_rows": 32, "rows_in_digest": 16, "class_counts": {"0": 20, "1": 12}}
    assert json.loads(found.profile) == profile
    (known,) = tracking.run(run_id).data["train"]
    assert known == DataSetInfo("Toy train", "0a1b2c3d", 32, 16, {"0": 20, "1": 12})
    assert known.described() == "Toy 0a1b2c3d (16 of 32 read)"
    assert "toy.Data(points=3)" in found.source and found.source_type == "code"
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 2


def test_inputs_of_other_programs_and_of_older_versions() -> None:
    def given(profile: str | None, context: str = "training") -> DatasetInput:
        return DatasetInput(
            Dataset("x", "1", "local", "{}", profile=profile), [InputTag("mlflow.data.context", context)]
        )

    inputs = [
        given(None),
        given("[]"),
        given("{"),
        given('{"num_rows": "many", "class_counts": {"a": 1, "b": []}}', "eval"),
    ]
    found = data_sets_of(inputs)
    assert [info.samples for info in found["train"]] == [None] * 3
    assert (found["eval"][0].samples, found["eval"][0].classes) == (None, {"a": 1})
    assert found["train"][0].described() == "x 1"
