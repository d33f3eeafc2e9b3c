"""Ray for a bulk job: the one that is running, the cluster of `RAY_ADDRESS`, or one started on this machine."""

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvrerank_helpers.bulk.rows import JobStopped
from nvrerank_helpers.extras import extra

OBJECT_STORE_BYTES = 100 * 2**20  # only block numbers and results pass through it

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # stay on 127.0.0.1, as Ray does on those systems
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # run workers in this environment, and not in one that `uv run` makes
    "RAY_DEDUP_LOGS_SKIP_REGEX": "MapWorker|worker died or was killed",  # hide messages about workers it replaces
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # the messages of its native part are in its log files
}


@contextmanager
def use_ray(workers: int) -> Iterator[None]:
    """Use the Ray that is running, the cluster that `RAY_ADDRESS` names, or start one for the `with` block.

    A Ray that was running or a cluster is left running. A new one listens on 127.0.0.1, without dashboard and usage
    statistics, and its workers end with this process even if it is killed. After `kill -9`, two of Ray's own agents
    take a minute longer, and a folder of logs remains.

    Args:
        workers: How many actors a new Ray must have room for.

    Raises:
        JobStopped: Ray didn't start.
        ExtraNotInstalled: The extra `ray` is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with extra("ray"):
        import ray
        import ray.data
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    with _join_cluster() if os.environ.get("RAY_ADDRESS") else _start_local_ray(workers):
        yield


@contextmanager
def _join_cluster() -> Iterator[None]:
    import ray

    try:
        with _translate_errors(), _silence_stderr():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _start_local_ray(workers: int) -> Iterator[None]:
    import ray
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # Ray reads the variable above at import, which may have been earlier
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # instead of a file in the home folder
    # The path of a socket may have about 100 characters, and TMPDIR is often long.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)  # noqa: S108
    try:
        with _set_home(Path(folder)), _translate_errors(), _silence_stderr():
            ray.init(
                address="local",
                num_cpus=max(workers, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises bare ones here
        raise JobStopped(f"Ray did not start: {error} If the machine is very busy, try again.") from error


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Hide what Ray's native part writes to the terminal at its start, past Python's own stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def _set_home(folder: Path) -> Iterator[None]:
    """Start Ray's processes with another home folder, which contains an empty description of a cluster.

    Without that file they ask the servers of three clouds whether this is one of their machines, even if usage
    statistics are off (`ray._common.usage.usage_lib`, Ray 2.60).
    """
    (folder / "ray_bootstrap_config.yaml").write_text("{}\n", encoding="utf-8")
    name = "USERPROFILE" if os.name == "nt" else "HOME"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
