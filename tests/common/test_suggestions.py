from studies.common.suggestions import did_you_mean


def test_the_nearest_name_and_all_allowed_ones() -> None:
    hint = did_you_mean("lerning_rate", ["learning_rate", "dropout"], "model.")
    assert hint == "; did you mean model.learning_rate? (allowed: model.dropout, model.learning_rate)"


def test_no_close_name() -> None:
    assert did_you_mean("zzz", ["tpe", "gp"]) == " (allowed: gp, tpe)"
    assert did_you_mean("zzz", []) == ""
