"""The stand-in as a child process under the project's own Python, which these tests do not run under."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = "ready: "
LIVE = "nvidia/llama-nemotron-rerank-vl-1b-v2"
DOTTED = "nvidia/llama-3.2-nv-rerankqa-1b-v1"
TOKENS = 512
PER_MINUTE = 2
QUERY = "How do I sort a list of numbers?"
PASSAGES = [
    "Open a file and read it line by line.",
    "list.sort() sorts a list in place; sorted() returns a new one.",
    "Sort a dictionary by its values with sorted() and a key function.",
    "random.shuffle() puts the items of a list in any order.",
    "Knead the dough, let it rest, and bake it.",
]


class StandIn:
    """A running stand-in and its switches, spoken to by HTTP alone."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.address = base_url.removesuffix("/v1")

    @contextmanager
    def behaviour(self, name: str) -> Iterator[None]:
        present = self._ask("GET", "behaviour").json()["name"]
        self._ask("PUT", "behaviour", {"name": name})
        try:
            yield
        finally:
            self._ask("PUT", "behaviour", {"name": present})

    @contextmanager
    def fault(self, **fault: Any) -> Iterator[None]:
        self._ask("POST", "faults", {"faults": [fault], "seed": 0})
        try:
            yield
        finally:
            self._ask("DELETE", "faults")

    def requests(self) -> list[dict[str, Any]]:
        return self._ask("GET", "requests").json()

    def clear(self) -> None:
        self._ask("DELETE", "requests")

    def rank(self, texts: list[str] = PASSAGES) -> list[tuple[int, float]]:
        """Return the order and the scores that the service itself gives."""
        body = {"model": LIVE, "query": {"text": QUERY}, "passages": [{"text": text} for text in texts]}
        answer = httpx.post(f"{self.base_url}/ranking", json=body, trust_env=False).raise_for_status()
        return [(entry["index"], entry["logit"]) for entry in answer.json()["rankings"]]

    def _ask(self, method: str, name: str, content: Any = None) -> httpx.Response:
        url = f"{self.address}/stand-in/{name}"
        return httpx.request(method, url, json=content, trust_env=False).raise_for_status()


@contextmanager
def running() -> Iterator[StandIn]:
    """Run a stand-in; it ends when its standard input closes, and so at the latest with this process.

    Raises:
        RuntimeError: It did not start; what it says is on standard error.
    """
    served = [f"--model={model}={TOKENS}" for model in (LIVE, DOTTED)]
    options = ["--port=0", "--stop-at-eof", "--threads=1", f"--requests-per-minute={PER_MINUTE}", *served]
    command = [PYTHON, "-m", "nvrerank_helpers.nim_standin", *options]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            line = child.stdout.readline()
            if not line.startswith(READY):
                raise RuntimeError("The stand-in did not start. `make setup` makes the environment that it needs.")
            yield StandIn(line.removeprefix(READY).strip())
        finally:
            child.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)
            child.kill()
