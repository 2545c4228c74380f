"""Row 7: cost of one metric on the training thread, in microseconds; `ours` or `rival`. See bench.py."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

COUNT = 4  # metrics of one logging interval


def ours(folder: str) -> float:
    """EventLogger, called by Lightning with an interval's metrics: appends JSON to a file and notifies the driver."""
    from multiprocessing import Pipe, Process
    from types import SimpleNamespace

    from studies.protocol.channel import Channel
    from studies.protocol.event_log import EventWriter
    from studies.trial.logger import EventLogger

    here, there = Pipe()

    def hear() -> None:
        while True:
            there.recv_bytes()

    listener = Process(target=hear, daemon=True)
    listener.start()
    channel = Channel(EventWriter(Path(folder) / "events.jsonl"), here, orphaned=lambda: None)
    logger = EventLogger(channel, folder, "run")
    loop = SimpleNamespace(total_batch_idx=6)
    logger.trainer = SimpleNamespace(global_step=7, current_epoch=1, max_epochs=3, fit_loop=loop)  # type: ignore[assignment]
    values = {"train/loss": 0.123456789, "train/accuracy": 0.97, "train/learning_rate": 3e-3, "epoch": 1.0}
    calls = 5000
    began = time.perf_counter()
    for _ in range(calls):
        logger.log_metrics(values, 6)
    seconds = time.perf_counter() - began
    listener.kill()
    return seconds / calls / COUNT * 1e6


def rival(folder: str) -> float:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run = client.create_run("0").info.run_id
    client.log_metric(run, "warm", 0.0)
    calls = 200
    began = time.perf_counter()
    for step in range(calls):
        client.log_metric(run, "train/loss", 0.123456789, step=step)
    return (time.perf_counter() - began) / calls * 1e6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"microseconds": {"ours": ours, "rival": rival}[sys.argv[1]](folder)}))
