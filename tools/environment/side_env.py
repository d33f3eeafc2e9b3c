"""Make an environment beside `.venv` for what most readers do not need: `python -m tools.environment.side_env NAME`.

NAME is that of a lock in `locks/`; the environment is `build/envs/NAME`, and its Python is printed last. Where the lock
holds the course, the project itself is installed too. A step that is done is not done again.
"""

import argparse
import os
import sys
from pathlib import Path

from tools.environment.setup_advice import SetupError
from tools.environment.setup_env import PYTHON, ROOT, UV, digest, run, say, uv_environment, uv_packages

LOCKS = ROOT / "locks"
ENVIRONMENTS = ROOT / "build" / "envs"


def python_of(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(name: str) -> Path:
    """Make the environment unless it is there and fits its lock.

    Args:
        name: Of the lock.

    Returns:
        The environment's Python.

    Raises:
        SetupError: A step failed.
    """
    lock, folder = LOCKS / f"{name}.lock", ENVIRONMENTS / name
    python, stamp = python_of(folder), folder / "lock.sha256"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest(lock):
        return python
    say(f"Set-up: the packages in locks/{lock.name} into build/envs/{name}")
    env = uv_environment()
    run([UV, "venv", "--quiet", "--clear", "--no-project", "--python", PYTHON, folder], env)
    uv_packages(["sync", lock], python, env)
    if "flit-core==" in lock.read_text(encoding="utf-8"):
        options = ["--no-deps", "--no-build-isolation", "--offline", "--system-certs", "--python", python]
        run([UV, "pip", "install", "--quiet", *options, "-e", ROOT], env)
    stamp.write_text(digest(lock), encoding="utf-8")
    return python


def main() -> int:
    """Make the environment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in LOCKS.glob("*.lock")))
    asked = parser.parse_args()
    try:
        print(make(asked.name))
    except SetupError as failure:
        print(f"Set-up: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
