"""Jobs of `harness mcp`: known to later servers, limited in number, and only those of the same state folder."""

import json
import os
import time
from pathlib import Path

import pytest
from process_helpers import eventually
from schemas import check

from studies.cli.agents.jobs import Jobs
from studies.cli.bad_input import BadInput


def test_a_job_ends_with_its_answer(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", tmp_path / "mlruns", 1)
    job = jobs.start(["train", "mnist_mpl", "--json"])
    with pytest.raises(BadInput, match=f"1 jobs are running \\({job}\\), and at most 1 may"):
        jobs.start(["list", "--json"])
    assert eventually(lambda: jobs.status(job)["state"] == "ended", 60)
    later = Jobs(tmp_path / "jobs", tmp_path / "mlruns", 1)
    status = later.status(job)
    check("job", status)
    assert status == jobs.status(job) and "mnist_mlp" in status["answer"]["hint"]
    assert status["log"][-1].startswith("harness: unknown experiment mnist_mpl")
    check("jobs", {"jobs": later.newest_first()})

    other = Jobs(tmp_path / "jobs", tmp_path / "another", 1)
    assert other.newest_first() == []
    with pytest.raises(BadInput, match="unknown job"):
        other.stop(job)
    jobs.forget(job)
    assert later.newest_first() == []


def test_a_killed_job_has_an_error(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", tmp_path / "mlruns", 1)
    job = jobs.start(["list", "--json"])
    jobs._children[job].kill()
    jobs._children[job].wait()
    answer = jobs.status(job)["answer"]
    assert "ended without an answer" in answer["error"] or "experiments" in answer


def test_a_process_with_the_number_of_an_ended_job_is_not_the_job(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", tmp_path / "mlruns", 1)
    job = jobs.start(["list", "--json"])
    assert eventually(lambda: jobs.status(job)["state"] == "ended", 60)
    record = tmp_path / "jobs" / job / "job.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"pid": os.getpid(), "created": content["created"] or time.time() - 1e6}))
    later = Jobs(tmp_path / "jobs", tmp_path / "mlruns", 1)
    assert later.stop(job)["state"] == "ended"  # this process got no Ctrl-C
