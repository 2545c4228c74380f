import pytest

from studies.cli.parser import BadInput, parse, split_overrides


def test_overrides_in_both_spellings() -> None:
    argv = ["train", "x", "--model.a", "-1", "--data.b=[1, 2]", "--json"]
    assert split_overrides(argv) == (["train", "x", "--json"], {"model.a": "-1", "data.b": "[1, 2]"})


def test_options_and_overrides_in_any_order() -> None:
    options, overrides = parse(["study", "--model.x", "3", "toy", "--trials", "7", "--data.y=z", "--json"])
    assert (options.command, options.experiment, options.trials, options.json) == ("study", "toy", 7, True)
    assert overrides == {"model.x": "3", "data.y": "z"}
    assert parse(["extend", "toy", "--epochs", "+5"])[0].epochs == 5


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["stduy", "toy"], "unknown command stduy; did you mean study"),
        (["study", "toy", "--wokers", "2"], "did you mean --workers"),
        (["study", "toy", "--tri", "2"], "unknown argument --tri"),
        (["train", "toy", "--ll", "2"], "unknown argument --ll (allowed"),
        (["train", "x", "--epochs", "3"], "unknown argument --epochs; did you mean --trainer.max_epochs?"),
        (["study", "x", "--batch_size=3"], "unknown argument --batch_size=3; did you mean --data.batch_size?"),
        (["train", "x", "--lr", "3"], "unknown argument --lr; did you mean --model.learning_rate?"),
        (
            ["runs", "--model.x", "1"],
            "--model.x applies to train, study, resume, lr, batch-size and forecast, not to runs",
        ),
        (["train", "toy", "--model.x", "--json"], "--model.x needs a value"),
    ],
)
def test_typos_are_reported_with_the_closest_name(argv: list[str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(argv)
    assert said in str(caught.value)
