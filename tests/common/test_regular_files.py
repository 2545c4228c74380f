import errno
import os
import socket
from pathlib import Path

import pytest

from studies.common.regular_files import open_regular, open_to_append, read_text


@pytest.fixture
def things(tmp_path: Path) -> list[Path]:
    """What is no file."""
    pipe, folder, itself, zero, server = (tmp_path / name for name in ("pipe", "folder", "itself", "zero", "socket"))
    os.mkfifo(pipe)
    folder.mkdir()
    itself.symlink_to("itself")
    zero.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(server))
    return [pipe, folder, itself, zero, server]


def test_only_files_are_read(things: list[Path]) -> None:
    for path in things:
        with pytest.raises(OSError, match="no regular file") as raised:
            open_regular(path)
        assert raised.value.errno == errno.EINVAL


def test_only_files_are_written_to(things: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("as before")
    (tmp_path / "link").symlink_to(target)
    for path in [*things, tmp_path / "link"]:
        with pytest.raises(OSError):
            open_to_append(path)
    assert target.read_text() == "as before"


def test_files_are_read_and_written_to(tmp_path: Path) -> None:
    for text in ("one ", "two"):
        with os.fdopen(open_to_append(tmp_path / "file"), "wb") as file:
            file.write(text.encode())
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "file") == read_text(tmp_path / "link") == "one two"
    with pytest.raises(ValueError, match="more than 3 bytes"):
        read_text(tmp_path / "file", 3)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")
