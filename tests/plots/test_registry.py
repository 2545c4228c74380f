import numpy as np
import pytest
from matplotlib.figure import Figure

from studies.plots import registry as pictures


def test_draw_finds_pictures_by_name_and_suggests_names() -> None:
    assert isinstance(pictures.draw("confusion_matrix", counts=np.eye(2, dtype=int), labels=["a", "b"]), Figure)
    with pytest.raises(ValueError, match=r"^unknown picture confusion_matrx; did you mean confusion_matrix\? .*$"):
        pictures.draw("confusion_matrx", counts=[], labels=[])
