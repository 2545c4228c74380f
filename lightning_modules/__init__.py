"""Models: plain LightningModules, also usable alone in a notebook."""

from lightning_modules.cnn import CNN
from lightning_modules.detector import Detector
from lightning_modules.gru_seq2seq import GRUSeq2Seq
from lightning_modules.mlp import MLP
from lightning_modules.segmenter import Segmenter

__all__ = ["CNN", "Detector", "GRUSeq2Seq", "MLP", "Segmenter"]
