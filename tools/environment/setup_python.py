"""Find a Python that the project supports; runs on older ones too, to say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tools.environment.setup_advice import SetupError, python_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSIONS = ("3.13", "3.12", "3.11")

# Runs in a candidate: its version, the interpreter behind a shim or a virtual environment, and whether it can
# make a virtual environment with pip in it.
PROBE = """
import importlib.util, json, sys
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "path": getattr(sys, "_base_executable", sys.executable),
    "cpython": sys.implementation.name == "cpython",
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


def probe(command: str) -> dict[str, object]:
    """Ask an interpreter about itself; an empty answer means that it does not run, like a shim to nothing."""
    try:
        options = ["-I", "-c", PROBE]
        answer = subprocess.run([command, *options], capture_output=True, text=True, timeout=30, check=True)
        return dict(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def choose(found: Iterable[Mapping[str, object]], platform: str = sys.platform) -> Mapping[str, object]:
    """Take the first interpreter that fits.

    Args:
        found: Answers of `probe`, the interpreter that runs this tool first.
        platform: A value of `sys.platform`, for the advice.

    Returns:
        One of `found`.

    Raises:
        SetupError: If none fits, with what to install.
    """
    running = [answer for answer in found if answer]
    supported = [answer for answer in running if answer["version"] in VERSIONS and answer["cpython"]]
    for answer in supported:
        if answer["venv"]:
            return answer
    if supported:
        version = supported[0]["version"]
        raise SetupError(
            f"Python {version} is here, but without its venv module.\n"
            f"Install it (Debian, Ubuntu: sudo apt install python{version}-venv) and run the same command again."
        )
    versions = ", ".join(str(answer["version"]) for answer in running) or "none"
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is needed; found: {versions}.\n"
        f"Install one ({python_hint(platform)}),\n"
        "or name one that you have: make setup PYTHON=/path/to/python3.12"
    )


def find_python() -> Mapping[str, object]:
    """Choose between the Python that runs this tool and the others on PATH."""
    answers = [probe(sys.executable)]
    if answers[0].get("version") not in VERSIONS or not answers[0].get("venv"):
        commands = [shutil.which(f"python{version}") for version in VERSIONS]
        answers += [probe(command) for command in commands if command]
    return choose(answers)
