"""Which artifact URIs are local folders."""

from pathlib import Path

import pytest

from studies.tracking.artifact_folder import local_files, local_folder


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


def test_files_and_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_text("1")
    (tmp_path / "a" / "b" / "two").write_text("22")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "again").symlink_to(".")  # not followed
    assert local_files(tmp_path.as_uri()) == {"one": 1, "a/b/two": 2}
    assert local_files(str(tmp_path / "none")) == {}
    assert local_files("s3://bucket/a") is None
