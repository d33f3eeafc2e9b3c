"""Remake the locks from pyproject.toml: `python -m tools.environment.lock [--upgrade]`.

locks/course.lock holds what the course and its tests need; the locks in `locks/` hold what lives beside it, with the
same versions where both have a package, except in floors.lock: it holds the lowest versions that the connector allows,
and the rest as new as they permit. Nothing is written that names a package index, or that is not hashed.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tools.environment.setup_env import LOCK, PROJECT, ROOT, UV

LOCKS = ROOT / "locks"
BEYOND = ["production", "lancedb", "postgres", "ray", "images", "pages", "dev-beyond"]  # for notebooks 08 and later
HELD_BACK = "locks/held-back.in"
PINNED = re.compile(r"^[a-z0-9._-]+==[^\\\n]+", re.MULTILINE)
UNWANTED = re.compile(r"://|^--|^ *-[^-]", re.MULTILINE)
TORCH = re.compile(r"^(torch|sentence-transformers)==", re.MULTILINE)
OPTIONS = [
    "--quiet",
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-header",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--system-certs",
]


def compiled(lock: Path, source: Path, options: list[str], *, with_torch: bool = False) -> None:
    """Write one lock, from the versions that it holds now.

    uv reads the override that leaves torch out from pyproject.toml, but only if no other settings file is named.
    """
    env = {name: value for name, value in os.environ.items() if name != "UV_CONFIG_FILE"}
    env |= {"UV_NO_CONFIG": "1"} if with_torch else {}
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / lock.name
        if lock.exists():
            new.write_text(lock.read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run([UV, "pip", "compile", *OPTIONS, *options, source, "-o", new], cwd=ROOT, env=env, check=True)
        text = new.read_text(encoding="utf-8")
    if UNWANTED.search(text) or (TORCH.search(text) and not with_torch):
        raise SystemExit(f"The new {lock.name} is not taken: an address, an option or torch is in it.")
    lock.write_text(text, encoding="utf-8")


def read_names(requirements: list[str]) -> list[str]:
    """Return the names of the packages that are required."""
    return [Requirement(requirement).name for requirement in requirements]


def main() -> int:
    """Remake all locks, the main one first."""
    upgrade = sys.argv[1:]
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    course = ["--extra", "course", "--extra", "dev-connector", "--extra", "dev"]
    compiled(LOCK, PROJECT, [*course, "-c", HELD_BACK, *upgrade])
    with tempfile.TemporaryDirectory() as folder:
        same = Path(folder) / "constraints.txt"
        pins = PINNED.findall(LOCK.read_text(encoding="utf-8"))
        same.write_text("\n".join(pins), encoding="utf-8")
        held = ["--no-annotate", "-c", str(same), *upgrade]
        beside = [*held, *course]
        beyond = [option for extra in BEYOND for option in ("--extra", extra)]
        compiled(LOCKS / "beyond.lock", PROJECT, [*beside, *beyond])
        compiled(LOCKS / "site.lock", PROJECT, [*beside, "--extra", "site"])
        compiled(LOCKS / "cross-encoder.lock", PROJECT, [*beside, "--extra", "cross-encoder"], with_torch=True)
        compiled(LOCKS / "connector.lock", PROJECT, [*held, "--extra", "dev-connector"])
        compiled(LOCKS / "upstream.lock", PROJECT, [*held, "--extra", "dev-upstream"])
        # Only the connector's own dependencies are lowered, also below what the lock holds now; not what tests them.
        tests = Path(folder) / "tests.txt"
        testing = read_names(project["optional-dependencies"]["dev-connector"])
        tests.write_text("\n".join(pin for pin in pins if pin.split("==")[0] in testing), encoding="utf-8")
        lowered = [word for name in read_names(project["dependencies"]) for word in ("--upgrade-package", name)]
        lowest = ["--resolution", "lowest-direct", "--extra", "dev-connector", "-c", str(tests)]
        compiled(LOCKS / "floors.lock", PROJECT, ["--no-annotate", *lowest, *lowered, *upgrade])
    compiled(LOCKS / "clients.lock", LOCKS / "clients.in", ["--no-annotate", *upgrade])
    return 0


if __name__ == "__main__":
    sys.exit(main())
