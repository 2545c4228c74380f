"""What models are trained on: plain LightningDataModules, usable alone in a notebook."""

from datamodules.canvas import MNISTCanvas
from datamodules.mnist import MNIST
from datamodules.resident import ResidentLoader
from datamodules.tabular import Tabular
from datamodules.word_reversal import ReverseWordDataset, Vocabulary, WordReversal

__all__ = ["MNIST", "MNISTCanvas", "ResidentLoader", "ReverseWordDataset", "Tabular", "Vocabulary", "WordReversal"]
