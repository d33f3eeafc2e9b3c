"""The command with its own Ray, of which nothing may be left."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from bulk_runs import make_run, rank_locally, read_results
from number_service import NumberService

RUN = make_run(queries=200)


@pytest.fixture
def slow_service(tmp_path):
    service = NumberService(tmp_path / "asked.txt", 0.2)
    yield service
    service.close()


@pytest.fixture
def command(tmp_path, slow_service):
    RUN.to_parquet(tmp_path / "in.parquet")
    options = ["--run", tmp_path / "in.parquet", "--out", tmp_path / "out", "--base-url", slow_service.base_url]
    options += ["--workers", "1", "--in-flight", "8", "--block-pairs", "40", "--trec", tmp_path / "out.run"]
    return [sys.executable, "-m", "nvrerank_helpers", "bulk", *map(str, options)]


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def list_processes(process):
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def find_log_folders(processes):
    """Find the folders of Ray's logs, which a killed driver cannot remove."""
    return {found for process in processes for found in re.findall(r"/tmp/ray-\w+", " ".join(process.cmdline()))}


def wait_until_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=120)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


# Ray exits with the number of the signal for SIGTERM.
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 15)])
def test_nothing_is_left_of_an_interrupted_command(command, slow_service, how, code):
    first = start(command)
    slow_service.wait_until_asked()
    processes = list_processes(first)
    logs = find_log_folders(processes)
    assert len(processes) > 5
    assert logs
    first.send_signal(how)
    _, said = first.communicate()
    assert (first.returncode, "Traceback" in said) == (code, False)
    assert wait_until_gone(processes)
    assert not any(Path(folder).exists() for folder in logs)


def test_without_ray_an_interrupt_ends_the_command_too(command, slow_service):
    process = start([*command, "--workers", "0"])
    slow_service.wait_until_asked()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].endswith("Stopped.\n")
    assert process.returncode == 130


def test_nothing_is_left_of_a_killed_command_and_the_same_one_resumes_the_job(command, slow_service, tmp_path):
    first = start(command)
    slow_service.wait_until_asked()
    processes = list_processes(first)
    logs = find_log_folders(processes)
    first.kill()
    first.communicate()
    again = start([*command, "--workers", "0"])
    said, _ = again.communicate()
    assert (again.returncode, said[:10]) == (0, "1,000 pair")
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), rank_locally(RUN))
    assert (tmp_path / "out.run").read_text().startswith("q0 Q0 ")
    assert wait_until_gone(processes)  # two agents of Ray take a minute
    for folder in logs:
        shutil.rmtree(folder)
