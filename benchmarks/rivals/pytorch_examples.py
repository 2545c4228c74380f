"""The rival of row 6: the MNIST recipe of pytorch/examples (mnist/main.py), with in-memory data.

.venv/bin/python benchmarks/rivals/pytorch_examples.py --seed 1 --epochs 3

The same network (two 3x3 convolutions, dropout, two linear layers), Adadelta at 1.0 falling by 0.7 an epoch and
batches of 64, on all 60000 images; instead of a DataLoader, batches by index_select from normalized tensors.
Prints, per epoch, {"seconds": of training so far, "accuracy": on the test images, in percent}; evaluation is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torchvision import datasets

ROOT = os.environ.get("HARNESS_DATA") or str(Path.home() / ".cache" / "harness")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = self.dropout2(F.relu(self.fc1(torch.flatten(x, 1))))
        return F.log_softmax(self.fc2(x), dim=1)


def resident(train: bool) -> tuple[Tensor, Tensor]:
    data = datasets.MNIST(ROOT, train=train)
    return data.data.unsqueeze(1).float().div_(255 * 0.3081).sub_(0.1307 / 0.3081), data.targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--gamma", type=float, default=0.7)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    (images, labels), (test_images, test_labels) = resident(True), resident(False)
    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=options.lr)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=options.gamma)
    seconds = 0.0
    for _ in range(options.epochs):
        began = time.perf_counter()
        model.train()
        for chosen in torch.randperm(len(images)).split(options.batch_size):
            optimizer.zero_grad()
            loss = F.nll_loss(model(images.index_select(0, chosen)), labels.index_select(0, chosen))
            loss.backward()
            optimizer.step()
        scheduler.step()
        seconds += time.perf_counter() - began
        model.eval()
        with torch.no_grad():
            batches = zip(test_images.split(1000), test_labels.split(1000), strict=True)
            right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in batches)
        print(json.dumps({"seconds": seconds, "accuracy": 100 * right / len(test_labels)}), flush=True)


if __name__ == "__main__":
    main()
