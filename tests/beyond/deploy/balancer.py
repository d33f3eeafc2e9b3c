"""nginx as a child process with the configuration that is deployed, in front of services on this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from deploy.files import TEMPLATE, filled_in

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
PATIENCE = 60  # seconds; far more than anything here takes

# What the image's own nginx.conf is for the deployed configuration: the frame around it. Two workers, as many cores as
# there are; files in a separate folder, so that it runs as root and as anybody else.
FRAME = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/rerankers.conf;
}}
"""


def written(folder: Path, values: dict[str, str]) -> Path:
    """Write the configuration with these values, and return where it begins."""
    (folder / "rerankers.conf").write_text(filled_in(TEMPLATE.read_text(encoding="utf-8"), values), encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""  # else workers become nobody, who may not write to the folder
    begin = folder / "nginx.conf"
    begin.write_text(FRAME.format(folder=folder, user=user), encoding="utf-8")
    return begin


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Balancer:
    """nginx in front of two services; it ends with its `with` block.

    Args:
        first: Address of a service, such as `http://127.0.0.1:1976/v1`.
        second: Address of the other one.
        read_timeout: How long to wait for an answer before the other one is asked.
    """

    def __init__(self, first: str, second: str, read_timeout: str = "25s") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nginx-")
        self._home = Path(self._folder.name)
        self.address = f"http://127.0.0.1:{free_port()}"
        self.base_url = f"{self.address}/v1"
        values = {
            "RERANK_1": urlsplit(first).netloc,
            "RERANK_2": urlsplit(second).netloc,
            "RERANK_LISTEN": urlsplit(self.address).netloc,
            "RERANK_READ_TIMEOUT": read_timeout,
        }
        self._output = (self._home / "access.log").open("wb")
        command = [NGINX, "-e", self._home / "error.log", "-c", written(self._home, values)]
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and self._process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(f"{self.address}/nginx/health", trust_env=False)
                return
        said = (self._home / "error.log").read_text()
        self.close()
        raise RuntimeError(f"nginx did not start: {said}")

    def log(self, at_least: int = 0) -> list[dict[str, Any]]:
        """Return what nginx has noted of each request; it does so after the answer, so it may be waited for."""
        ends = time.monotonic() + PATIENCE
        while True:
            lines = (self._home / "access.log").read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [json.loads(line) for line in lines if line.endswith("\n")]
            if len(whole) >= at_least or time.monotonic() > ends:
                return whole

    def broken_off(self) -> int:
        """Count the answers that a service began and did not end; their heads had gone to the clients by then."""
        return (self._home / "error.log").read_text(encoding="utf-8").count("while reading upstream,")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
