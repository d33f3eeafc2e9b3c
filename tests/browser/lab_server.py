"""Start JupyterLab with `tools/lab.py`, and end it again whatever happens."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/lab\S*\?token=(\w+)")

# Settings of whoever runs the tests; the notebooks are to run as they do for somebody new.
PERSONAL = ("NVIDIA_", "NVRERANK_", "JUPYTER", "IPYTHON")


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs.

    Attributes:
        url: Its address, without a slash at the end.
        token: What its pages ask for.
        folder: The folder that it serves.
    """

    url: str
    token: str
    folder: Path

    def address(self, front_end: str, notebook: str) -> str:
        """Return the address of a notebook in `lab/tree` or `notebooks`, opened as if for the first time."""
        return f"{self.url}/{front_end}/notebooks/{notebook}.ipynb?reset&token={self.token}"


@contextmanager
def serve_lab(folder: Path, log: Path) -> Iterator[Lab]:
    """Start `tools/lab.py` in a copy of the course, with an empty home folder, and wait until it prints its address.

    Args:
        folder: Contains `tools/lab.py` and `notebooks/`.
        log: File for the output of the server.
    """
    found_at: Queue[re.Match[str] | None] = Queue()
    command = [sys.executable, "tools/lab.py", "--no-browser", "--port=0"]
    with tempfile.TemporaryDirectory() as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith(PERSONAL)} | {"HOME": home}
        with subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True) as server:
            listener = Thread(target=_listen, args=(server.stderr, log, found_at))
            listener.start()
            try:
                found = found_at.get(timeout=120)
                if found is None:
                    raise RuntimeError(f"JupyterLab ended before it printed its address, see {log}")
                yield Lab(found[1], found[2], folder)
            finally:
                server.terminate()
                listener.join()


def _listen(output: IO[str], log: Path, found_at: "Queue[re.Match[str] | None]") -> None:
    """Copy the output of the server into a file, and pass on its address."""
    with log.open("w", encoding="utf-8") as file:
        for line in output:
            file.write(line)
            if found := ADDRESS.search(line):
                found_at.put(found)
    found_at.put(None)
