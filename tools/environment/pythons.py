"""Find a Python that the course runs on; older ones can run this too, to say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from tools.environment.failures import SetupError

VERSIONS = ("3.13", "3.12", "3.11")

# What a candidate says about itself. The path is that of the interpreter behind a shim or a virtual environment.
PROBE = """
import importlib.util, json, sys
print(json.dumps({
    "version": sys.implementation.name.replace("cpython", "") + "%d.%d" % sys.version_info[:2],
    "path": getattr(sys, "_base_executable", sys.executable),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


def probe(command: str) -> dict[str, object]:
    """Ask an interpreter about itself; the answer is empty if it does not run."""
    try:
        answer = subprocess.run([command, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
        return dict(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def choose(found: list[dict[str, object]]) -> dict[str, object]:
    """Return the first supported interpreter with its venv module; `found` holds answers of `probe`."""
    supported = [answer for answer in found if answer.get("version") in VERSIONS]
    for answer in supported:
        if answer["venv"]:
            return answer
    if supported:
        version = supported[0]["version"]
        raise SetupError(
            f"Python {version} is here, but without its venv module.\n"
            f"Install it (Debian, Ubuntu: sudo apt install python{version}-venv) and run the same command again."
        )
    versions = ", ".join(str(answer["version"]) for answer in found if answer) or "none"
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is needed; found: {versions}.\n"
        "Install one from python.org/downloads or with your package manager (Debian, Ubuntu: python3.12-venv),\n"
        "or name one that you have: make setup PYTHON=/path/to/python3.12"
    )


def find_python() -> dict[str, object]:
    """Choose between the Python that runs this tool and the others on PATH."""
    commands = [sys.executable, *(shutil.which(f"python{version}") for version in VERSIONS)]
    return choose([probe(command) for command in commands if command])
