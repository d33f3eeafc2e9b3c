"""20 times at random, `kill -9` of a worker, the driver or a service: the result is that of an undisturbed job."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from bulk_runs import make_run, rank_locally, read_results
from number_service import MODEL, NumberService

from nvrerank_helpers import bulk

CHANCE = random.Random(6)
ROUNDS = [(CHANCE.choice(["worker", "driver", "service"]), CHANCE.randrange(1, 10)) for _ in range(20)]
SETTINGS = {"model": MODEL, "workers": 1, "in_flight": 4, "block_pairs": 20, "progress": False}  # 12 blocks
DRIVER = Path(__file__).with_name("doomed_driver.py")


class Job:
    """A job over two services."""

    def __init__(self, folder, services):
        self.services, self.out = services, folder / "out"
        self.run = make_run()
        self.run.to_parquet(folder / "in.parquet")
        self.options = SETTINGS | {
            "run": str(folder / "in.parquet"),
            "out": str(self.out),
            "base_urls": [service.base_url for service in services],
        }

    def rerank(self, on_block=None):
        return bulk.rerank(**self.options, on_block=on_block)

    def rerank_and_kill(self, kill, after):
        """Run the job, and call `kill` when this many blocks are done."""
        done = []

        def strike(block):
            done.append(block)
            if len(done) == after:
                kill(block)

        return self.rerank(strike)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    folder = tmp_path_factory.mktemp("services")
    services = [NumberService(folder / f"{number}.txt", 0.02) for number in range(2)]
    yield services
    for service in services:
        service.close()


@pytest.fixture
def job(tmp_path, services, ray):
    return Job(tmp_path, services)


def kill_worker(job, after):
    job.options["workers"] = 2
    job.rerank_and_kill(lambda block: os.kill(block.pid, signal.SIGKILL), after)


def kill_service(job, after):
    victim = job.services[after % 2]
    job.rerank_and_kill(lambda block: victim.kill(), after)
    victim.start()


def kill_driver(job, after):
    """Kill the driver, then resume the job: no service is asked again about a finished query."""
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, DRIVER, json.dumps([after, job.options])]
    env = os.environ | {"RAY_ADDRESS": address}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    finished = set(pd.read_parquet(job.out / "ranked")["qid"])
    before = [len(service.asked()) for service in job.services]
    assert job.rerank().kept >= after
    again = {query for service, seen in zip(job.services, before, strict=True) for query in service.asked()[seen:]}
    assert not {qid.replace("q", "query ") for qid in finished} & again


@pytest.mark.parametrize(
    ("victim", "after"),
    [
        pytest.param(who, after, id=f"{n}-{who}", marks=[pytest.mark.long] if n >= 3 else [])
        for n, (who, after) in enumerate(ROUNDS)
    ],
)
def test_after_a_kill_the_result_is_that_of_an_undisturbed_job(job, victim, after):
    {"worker": kill_worker, "driver": kill_driver, "service": kill_service}[victim](job, after)
    pd.testing.assert_frame_equal(read_results(job.out), rank_locally(job.run))
