"""The rival of row 1: the best hand-written PyTorch loop over in-memory tensors, without any tracking.

.venv/bin/python benchmarks/rivals/bare.py mlp --batch-size 64 --epochs 5 --threads 2

It has the same layers, weights, order of samples, optimizer and passes over the validation set, a fused
optimizer, and batches by index_select, which is several times faster than indexing. It neither saves nor logs.
Prints {"seconds": from the data's files to the last step, "value": accuracy or exact match on validation}.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from datamodules import WordReversal
from datamodules.in_memory_loader import SeededOrder, seeded_generator
from lightning_modules import CNN, MLP, GRUSeq2Seq
from lightning_modules.gru_seq2seq import compare

SEED = 0


def images(name: str, batch_size: int, epochs: int) -> tuple[float, float]:
    torch.manual_seed(SEED)
    if name == "mlp":
        module, learning_rate = MLP(hidden_sizes=[256, 128]), 3e-3
    elif name == "lenet5":
        module, learning_rate = CNN(architecture="lenet5"), 5e-3
    else:
        module, learning_rate = CNN(architecture="small", width=16, depth=3), 1e-2
    began = time.perf_counter()
    root = os.environ.get("HARNESS_DATA") or Path.home() / ".cache" / "harness"
    data = torchvision.datasets.MNIST(str(root), train=True)
    pixels = torch.add(torch.tensor(-0.1307 / 0.3081), data.data.unsqueeze(1).float(), alpha=1 / (255 * 0.3081))
    split = torch.randperm(60_000, generator=seeded_generator(0))
    held_out, kept = split[:5000], split[5000:]
    held_images, held_labels = pixels[held_out], data.targets[held_out]
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)
    order = SeededOrder(len(kept), shuffle=True, seed=SEED)
    accuracy = 0.0
    for epoch in range(epochs):
        order.set_epoch(epoch)
        indices = kept[order.indices()]
        module.train()
        for start in range(0, len(indices) - batch_size + 1, batch_size):
            chosen = indices[start : start + batch_size]
            loss = F.cross_entropy(module(pixels.index_select(0, chosen)), data.targets.index_select(0, chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        module.eval()
        with torch.no_grad():
            right = sum(
                (module(held_images[start : start + 500]).argmax(dim=1) == held_labels[start : start + 500]).sum()
                for start in range(0, 5000, 500)
            )
            accuracy = float(right) / 5000
    return time.perf_counter() - began, accuracy


def words(batch_size: int, steps: int) -> tuple[float, float]:
    torch.manual_seed(SEED)
    data = WordReversal(batch_size=batch_size)
    data.prepare_data()
    began = time.perf_counter()
    data.setup("fit")
    module = GRUSeq2Seq(hidden_size=256, **data.sizes)
    sources, targets = data.train_set.sources, data.train_set.targets
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    order = SeededOrder(len(sources), shuffle=True, seed=SEED)
    indices = order.indices()
    for step in range(steps):
        chosen = indices[step * batch_size : (step + 1) * batch_size]
        loss = _spelling_loss(module, sources.index_select(0, chosen), targets.index_select(0, chosen))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    module.eval()
    exact = 0
    with torch.no_grad():
        for source, target in data.val_dataloader():
            _spelling_loss(module, source, target)
            exact += int(compare(module(source), target, module.pad_id)[1].sum())
    return time.perf_counter() - began, exact / len(data.val_set)


def _spelling_loss(module: GRUSeq2Seq, source: Tensor, target: Tensor) -> Tensor:
    logits = module.decode(module.encode(source), target)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=module.pad_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["mlp", "lenet5", "cnn", "gru"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200, help="of gru")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model == "gru":
        seconds, value = words(options.batch_size, options.steps)
    else:
        seconds, value = images(options.model, options.batch_size, options.epochs)
    print(json.dumps({"seconds": seconds, "value": value}))


if __name__ == "__main__":
    main()
