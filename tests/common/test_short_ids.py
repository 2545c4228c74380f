from studies.common.short_ids import short_ids


def test_ids_are_as_short_as_they_may_be() -> None:
    ids = ["aaaaaaaa11", "aaaaaaaa12", "bbbbbbbbbb", "bbbbbb"]
    assert short_ids(ids) == {
        "aaaaaaaa11": "aaaaaaaa11",
        "aaaaaaaa12": "aaaaaaaa12",
        "bbbbbbbbbb": "bbbbbbbb",
        "bbbbbb": "bbbbbb",
    }
    assert short_ids(["cccccccccc"], ["cccccccc00", "d"]) == {"cccccccccc": "ccccccccc"}
    assert short_ids([]) == {}
