from pathlib import Path

import pytest
import torch

from studies.protocol.checkpoint_files import FOLDER, is_whole, newest_checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    torch.save({"state_dict": {"weight": torch.randn(5, 5)}, "loops": {}}, path)
    return path.read_bytes()


def test_an_intact_checkpoint(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(data)
    assert is_whole(path)


def test_a_truncated_checkpoint_is_not_intact(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.ckpt"
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        assert not is_whole(path), length


def test_a_flipped_bit_is_detected_unlike_in_torch(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "last.ckpt"
    weights = torch.load(_written(path, data), weights_only=True)["state_dict"]["weight"]
    at = data.index(weights.numpy().tobytes())
    for offset in range(0, 100, 7):
        flipped = bytearray(data)
        flipped[at + offset] ^= 1
        torch.load(_written(path, bytes(flipped)), weights_only=True)  # does not notice
        assert not is_whole(path)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_trial_resumes_from_last_or_previous(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / FOLDER).mkdir()
    for name in ("previous.ckpt", "last.ckpt"):
        path = tmp_path / FOLDER / name
        path.touch()
        assert newest_checkpoint(tmp_path) == str(path)
