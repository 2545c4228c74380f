from pathlib import Path

import pytest
import torch

from studies.common import out_of_memory as memory
from studies.common.out_of_memory import explain, is_out_of_memory, kills


def test_running_out_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_the_message_names_usage_and_batch_size() -> None:
    text = explain({"data": {"init_args": {"batch_size": 512}}}, 1234.4)
    assert "used 1234 MB" in text and "data.batch_size=512" in text and "MB are available" in text
    assert "batch_size" not in explain({}, None)
    assert kills() >= 0


@pytest.mark.parametrize("name, text", [("events", "low 0\noom 1\noom_kill 3\n"), ("control", "oom_kill 3\n")])
def test_only_oom_kills_in_our_own_control_group_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """The machine-wide count would misattribute a kill to another process's lack of memory."""
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_group_files", lambda new, old: [tmp_path / "absent", tmp_path / name])
    assert kills() == 3
