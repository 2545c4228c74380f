"""Which artifact URIs are local folders."""

from pathlib import Path

import pytest

from studies.tracking.client import local_folder


def test_the_folder_of_a_uri() -> None:
    folder = Path("/tmp/a folder #1/100%/ü")
    assert local_folder(folder.as_uri()) == folder
    assert local_folder("/tmp/plain") == Path("/tmp/plain")
    assert local_folder("file://localhost/tmp/plain") == Path("/tmp/plain")


@pytest.mark.parametrize(
    "uri", ["mlflow-artifacts:/1/2", "s3://bucket/a", "file://elsewhere/tmp/a", "https://host/a", "relative/a"]
)
def test_remote_artifacts_are_left_to_mlflow(uri: str) -> None:
    assert local_folder(uri) is None
