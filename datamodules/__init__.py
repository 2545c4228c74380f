"""Data: plain LightningDataModules, also usable alone in a notebook."""

from datamodules.canvas import MNISTCanvas
from datamodules.in_memory_loader import InMemoryLoader
from datamodules.mnist import MNIST
from datamodules.random_strings import RandomStrings
from datamodules.tabular import Tabular
from datamodules.word_reversal import ReverseWordDataset, Vocabulary, WordReversal

__all__ = [
    "MNIST",
    "MNISTCanvas",
    "InMemoryLoader",
    "RandomStrings",
    "ReverseWordDataset",
    "Tabular",
    "Vocabulary",
    "WordReversal",
]
