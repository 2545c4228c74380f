"""What is trained: plain LightningModules, usable alone in a notebook."""

from lightning_modules.cnn import CNN
from lightning_modules.gru_seq2seq import GRUSeq2Seq
from lightning_modules.mlp import MLP

__all__ = ["CNN", "GRUSeq2Seq", "MLP"]
