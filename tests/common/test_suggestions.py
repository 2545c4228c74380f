from studies.common.suggestions import nearest


def test_the_nearest_name_and_all_allowed_ones() -> None:
    hint = nearest("lerning_rate", ["learning_rate", "dropout"], "model.")
    assert hint == "; did you mean model.learning_rate? (allowed: model.dropout, model.learning_rate)"


def test_no_close_name() -> None:
    assert nearest("zzz", ["tpe", "gp"]) == " (allowed: gp, tpe)"
    assert nearest("zzz", []) == ""
