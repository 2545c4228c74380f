from __future__ import annotations

import numpy as np
import pytest
import torch

from studies.trial.row_hashes import bytes_of, row_hashes


def test_each_bit_of_a_row_changes_its_hash() -> None:
    row = torch.zeros(3, 5)
    bits = row.view(torch.uint8).reshape(-1)
    seen = {int(row_hashes([row[None]])[0])}
    for place in range(len(bits)):
        for bit in range(8):
            bits[place] = 1 << bit
            seen.add(int(row_hashes([row[None]])[0]))
            bits[place] = 0
    assert len(seen) == 1 + 8 * 60


def test_two_changed_signs_do_not_cancel_out() -> None:
    rows = torch.ones(4, 64)
    rows[1, [3, 17]], rows[2, [3, 18]], rows[3, [0, 1]] = -1.0, -1.0, -1.0
    assert len(set(row_hashes([rows]).tolist())) == 4


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.complex64]
)
def test_rows_of_any_type_and_size(dtype: torch.dtype) -> None:
    for shape in ((3,), (3, 0), (0, 4), (3, 1, 5)):
        assert len(row_hashes([torch.ones(shape, dtype=dtype)])) == shape[0]
    ones = torch.ones(2, 7, dtype=dtype)
    assert row_hashes([ones])[0] == row_hashes([ones])[1] != row_hashes([ones[:, :6]])[0]


def test_a_type_and_a_shape_are_part_of_a_row() -> None:
    zeros = [torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 2, 2), torch.zeros(1, 5)]
    assert len({int(row_hashes([each])[0]) for each in zeros}) == 4


def test_chosen_rows_have_the_hashes_of_the_whole() -> None:
    images = torch.arange(5000 * 300, dtype=torch.int32).reshape(5000, 300)  # several chunks
    places = np.array([4999, 0, 17, 17])
    assert np.array_equal(row_hashes([images], places), row_hashes([images])[places])
    assert np.array_equal(row_hashes([images.T.contiguous().T]), row_hashes([images])), "of any layout in memory"
    assert bytes_of(images[:2]).shape == (2, 1200)
    assert row_hashes([images, images])[0] != row_hashes([images])[0]
