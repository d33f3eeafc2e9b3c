"""Make an environment beside `.venv` for what most readers do not need: `python -m tools.environment.side_env NAME`.

NAME is a lock in `locks/`; the environment is `build/envs/NAME`. If the lock contains the course, the project is
installed too. Nothing is done if the environment fits its lock. With `--here` the packages are added to `.venv` instead
and nothing is removed.
"""

import argparse
import os
import sys

from tools.environment.install import LOCKS, PYTHON, ROOT, UV, exit_code, run, say, uv_environment, uv_packages
from tools.environment.setup_env import digest


def make(name: str) -> None:
    """Make the environment unless it is there and fits its lock."""
    lock, folder = LOCKS / f"{name}.lock", ROOT / "build" / "envs" / name
    python, stamp = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), folder / "lock.sha256"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest(lock):
        return
    say(f"Set-up: the packages in locks/{lock.name} into build/envs/{name}")
    env = uv_environment()
    run([UV, "venv", "--quiet", "--clear", "--no-project", "--python", PYTHON, folder], env)
    uv_packages("sync", lock, python=python)
    if "flit-core==" in lock.read_text(encoding="utf-8"):
        options = ["--no-deps", "--no-build-isolation", "--offline", "--system-certs", "--python", python]
        run([UV, "pip", "install", "--quiet", *options, "-e", ROOT], env)
    stamp.write_text(digest(lock), encoding="utf-8")


def extend(name: str) -> None:
    """Install a lock over what is in `.venv`."""
    say(f"Set-up: the packages in locks/{name}.lock into .venv")
    uv_packages("install", "--no-deps", "-r", LOCKS / f"{name}.lock")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in LOCKS.glob("*.lock")))
    parser.add_argument("--here", action="store_true", help="add the packages to .venv")
    asked = parser.parse_args()
    sys.exit(exit_code(lambda: (extend if asked.here else make)(asked.name)))
