import re
from pathlib import Path

import pytest

from studies.config.experiment import load, override, parse, shipped
from studies.config.parameters import flat_parameters
from studies.config.yaml_io import dump_yaml, load_yaml

MINIMAL = "model: {class_path: a.B}\ndata: {class_path: c.D}\n"
SEARCH = "search: {metric: val/loss, direction: minimize, space: {model.x: [1, 2], data.b: [3, 4]}}\n"


def test_every_shipped_experiment_reads() -> None:
    assert {"mnist_mlp", "mnist_cnn", "mnist_lenet5", "reverse_gru"} <= set(shipped())
    for name in shipped():
        experiment = load(name)
        assert experiment.description
        assert experiment.search is not None
        assert {"model.learning_rate", "data.batch_size"} <= set(experiment.search.space)


def test_numbers_as_people_write_them() -> None:
    assert load_yaml("[1e-3, 1.0e-3, 5E2, -1e4, 3, 1e, e3]") == [0.001, 0.001, 500.0, -10000.0, 3, "1e", "e3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {class_path: a.B\n", "line 2"),
        (MINIMAL + "model: {class_path: x.Y}\n", "given twice"),
        ("", "must map"),
        ("- 1\n", "must map"),
        ("modle: {class_path: a.B}\n", "did you mean model"),
        ("data: {class_path: c.D}\n", "model must map"),
        ("model: {class_path: 3}\ndata: {class_path: c.D}\n", "model.class_path"),
        ("model: {class_path: a.B, init_args: [1]}\ndata: {class_path: c.D}\n", "model.init_args"),
        ("model: {class_path: a.B, args: {}}\ndata: {class_path: c.D}\n", "did you mean init_args"),
        (MINIMAL + "trainer: 3\n", "trainer must map"),
        (MINIMAL + "seed: -1\n", "seed"),
        (MINIMAL + "seed: one\n", "seed"),
        (MINIMAL + "search: {space: {model.x: [1]}}\n", "search.metric"),
        (MINIMAL + "search: {metric: m, space: {model.x: [1]}, sampler: tpee}\n", "did you mean tpe"),
        (MINIMAL + "search: {metric: m, space: {model.x: [1]}, pruner: medain}\n", "did you mean median"),
        (MINIMAL + "search: {metric: m, space: {model.x: [1]}, direction: maximise}\n", "did you mean maximize"),
        (MINIMAL + "search: {metric: m, space: {model.x: {low: 2, high: 1}}}\n", "low must be below high"),
        ("function: {class_path: a.f}\n" + MINIMAL, "function and model cannot be combined"),
        ("function: {class_path: a.f}\ntrainer: {max_epochs: 3}\n", "function and trainer cannot be combined"),
        ("function: 3\n", "function must map"),
        ("a: !!python/object/apply:os.system [ls]\n", "broken YAML"),
    ],
)
def test_an_invalid_file_gives_one_line_with_what_and_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse(text, Path("my.yaml"))
    assert "my.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean mnist_mlp"):
        load("mnist_mpl")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        load(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        load(str(tmp_path / "binary.yaml"))


def test_overrides_are_read_as_yaml_and_no_longer_searched() -> None:
    experiment = parse(MINIMAL + SEARCH, Path("my.yaml"))
    override(experiment, {"model.x": "[1, 2]", "trainer.max_epochs": "3", "data.lr": "1e-3"})
    assert experiment.model["init_args"] == {"x": [1, 2]}
    assert experiment.trainer == {"max_epochs": 3}
    assert experiment.data["init_args"] == {"lr": 0.001}
    assert experiment.search is not None and list(experiment.search.space) == ["data.b"]
    assert experiment.search.space_as_written == {"data.b": [3, 4]}


def test_sampled_values_are_applied_to_a_copy() -> None:
    experiment = parse(MINIMAL, Path("my.yaml"))
    sections = experiment.with_params({"model.x": 3, "trainer.max_epochs": 2})
    assert flat_parameters(sections) == {"model": "a.B", "model.x": 3, "data": "c.D", "trainer.max_epochs": 2}
    assert experiment.model["init_args"] == {} and experiment.trainer == {}


def test_a_config_round_trips() -> None:
    sections = {"model": {"class_path": "a.B", "init_args": {"lr": 1e-5, "hidden": [1, 2], "on": "yes"}}}
    assert load_yaml(dump_yaml(sections)) == sections


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model", "./drawn.py:Net"),
        ("model", "{class_path: ./drawn.py:Net}"),
        ("model.class_path", "./drawn.py:Net"),
        ("model.inner", "{class_path: ./drawn.py:Net}"),
    ],
)
def test_a_class_of_a_file_may_be_given_on_the_command_line(
    tmp_path: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is in the current folder."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "drawn.py").touch()
    (tmp_path / "mine.yaml").write_text("model: {class_path: a.B}")
    monkeypatch.chdir(tmp_path / "here")
    experiment = load(str(tmp_path / "mine.yaml"))
    override(experiment, {name: text})
    assert "drawn.Net" in str(experiment.model) and "./" not in str(experiment.model)
    assert str(tmp_path / "here") in experiment.search_path
    with pytest.raises(ValueError, match="there is no file"):
        override(experiment, {name: text.replace("drawn", "absent")})


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("# experiment: mine", "mine"),
        ("# experiment: my own-1.b", "my own-1.b"),
        ("# experiment: ../../outside", "config"),
        ("# experiment: /tmp/x", "config"),
        ("# experiment: ", "config"),
        ("# something else", "config"),
    ],
)
def test_the_configuration_of_a_run_keeps_its_experiments_name_and_a_name_is_never_a_path(
    tmp_path: Path, first: str, name: str
) -> None:
    text = f"{first}\nmodel: toy.Toy\n"
    assert parse(text, tmp_path / "config.yaml").name == name
    assert parse(text, tmp_path / "other.yaml").name == "other"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("metrics: m\n  directions: [maximize]", "search.metrics must be a list"),
        ("metrics: []\n  directions: []", "search.metrics must be a list"),
        (
            "metrics: [m, p]\n  directions: maximize",
            "search.directions must list maximize or minimize for each of the 2",
        ),
        ("metrics: [m, p]\n  directions: [maximize]", "search.directions must list"),
        ("metrics: [m, m]\n  directions: [maximize, minimize]", "must be different metrics"),
        ("metrics: [m, 3]\n  directions: [maximize, minimize]", "each of search.metrics must be the name"),
        ("metrics: [m, p]\n  directions: [maximize, up]", "unknown search.directions up"),
        ("metric: m\n  directions: [maximize]", "but got metric and directions"),
    ],
)
def test_objectives_that_cannot_be_meant(search: str, said: str) -> None:
    text = f"model: {{class_path: a.B}}\nsearch:\n  space: {{model.x: [1, 2]}}\n  {search}\n"
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text, Path("e.yaml"))


def test_several_objectives_are_one_metric_and_further_ones() -> None:
    text = "model: {class_path: a.B}\nsearch: {space: {model.x: [1, 2]}, %s}\n"
    both = text % "metrics: [val/acc, parameters], directions: [maximize, minimize]"
    plan = parse(both, Path("e.yaml")).search
    assert plan is not None and (plan.metric, plan.direction) == ("val/acc", "maximize")
    assert plan.objectives == {"val/acc": "maximize", "parameters": "minimize"}
    assert plan.objectives_as_written == {"metrics": ["val/acc", "parameters"], "directions": ["maximize", "minimize"]}
    one = text % "metrics: [val/acc], directions: [minimize]"
    plan = parse(one, Path("e.yaml")).search
    assert plan is not None and plan.objectives_as_written == {"metric": "val/acc", "direction": "minimize"}


def test_a_file_laid_over_replaces_the_objectives_whichever_form_they_have() -> None:
    one = "model: {class_path: a.B}\nsearch: {space: {model.x: [1, 2]}, metric: m, direction: minimize}\n"
    both = "search: {metrics: [a, b], directions: [maximize, minimize]}"
    plan = parse(one, Path("e.yaml"), [(both, Path("o.yaml"))]).search
    assert plan is not None and plan.objectives == {"a": "maximize", "b": "minimize"}
    plan = parse(one, Path("e.yaml"), [(both, Path("o.yaml")), ("search: {metric: c}", Path("p.yaml"))]).search
    assert plan is not None and plan.objectives == {"c": "maximize"} and plan.further == {}
