"""A Ray that runs: the caller's, the cluster of `RAY_ADDRESS`, or one on this machine that ends with the job."""

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvrerank_helpers.bulk.errors import JobStopped
from nvrerank_helpers.extras import extra

STORE = 100 * 2**20  # bytes for Ray's shared objects; only the numbers of blocks pass through it

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tells nobody that it runs
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # stays on 127.0.0.1, as it does on those systems
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers run in this environment, and not in one that `uv run` makes
    "RAY_DEDUP_LOGS_SKIP_REGEX": "MapWorker|worker died or was killed",  # of a worker that it replaces; not to be shown
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what its native part has to say stands in its log files
}


@contextmanager
def running_ray(workers: int) -> Iterator[None]:
    """Have a Ray to work on.

    One that runs already is used and left running; so is a cluster named by `RAY_ADDRESS`. Otherwise one is started
    on 127.0.0.1, without dashboard and usage statistics; it ends with this block. Its workers end with this process
    too, however that ends; after `kill -9` two of Ray's own agents follow a minute later, and a folder of logs stays.

    Args:
        workers: How many actors must fit.
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
    with _of_the_environment() if os.environ.get("RAY_ADDRESS") else _of_our_own(workers):
        yield


@contextmanager
def _of_the_environment() -> Iterator[None]:
    import ray

    try:
        with _starting(), _hushed():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _of_our_own(workers: int) -> Iterator[None]:
    import ray
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # the variable above says so too late where Ray was imported before
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # instead of a file in the home folder
    # The path of a socket may have about 100 characters, and TMPDIR is often long.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)  # noqa: S108
    try:
        with _home(Path(folder)), _starting(), _hushed():
            ray.init(
                address="local",
                num_cpus=max(workers, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=STORE,
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
def _starting() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises bare ones here
        raise JobStopped(f"Ray did not start: {error} A machine that is very busy may need another try.") from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep off the terminal what Ray's native part writes at its start, past Python: that it was told to be quiet."""
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
def _home(folder: Path) -> Iterator[None]:
    """Start Ray's processes with another home folder.

    They look there for the description of a cluster, and ask three clouds whether this is one of their machines where
    they find none, also with usage statistics switched off (`ray._common.usage.usage_lib`, Ray 2.60).
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
