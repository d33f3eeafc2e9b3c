"""Remake the locks from pyproject.toml: `python -m tools.environment.lock [--upgrade]`.

locks/course.lock contains what the course and its tests need. The other locks have the same versions wherever both name
a package, except floors.lock: it has the lowest versions that the connector allows, and the rest as new as those
permit. No lock names a package index, and each entry has its hashes.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tools.environment.install import LOCK, LOCKS, PROJECT, ROOT, UV, uv_environment

BEYOND = ["production", "lancedb", "postgres", "ray", "images", "pages", "dev-beyond"]  # for notebooks 08 and later
HELD_BACK = "locks/held-back.in"
PINNED = re.compile(r"^[a-z0-9._-]+==[^\\\n]+", re.MULTILINE)
UNWANTED = re.compile(r"://|^--|^ *-[^-]", re.MULTILINE)
TORCH = re.compile(r"^(torch|sentence-transformers)==", re.MULTILINE)
OPTIONS = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--system-certs"]
OPTIONS += ["--no-emit-index-url", "--no-emit-find-links"]


def compile_lock(lock: Path, source: Path, *options: str, with_torch: bool = False) -> None:
    """Write one lock, starting from the versions that it contains now.

    uv reads the override that leaves torch out from pyproject.toml, but only if no other settings file is named.
    """
    env = {name: value for name, value in uv_environment().items() if name != "UV_CONFIG_FILE"}
    env |= {"UV_NO_CONFIG": "1"} if with_torch else {}
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / lock.name
        if lock.exists():
            shutil.copy(lock, new)
        subprocess.run([UV, "pip", "compile", *OPTIONS, *options, source, "-o", new], cwd=ROOT, env=env, check=True)
        text = new.read_text(encoding="utf-8")
    if UNWANTED.search(text) or (TORCH.search(text) and not with_torch):
        raise SystemExit(f"The new {lock.name} is refused: it contains an address, an option or torch.")
    lock.write_text(text, encoding="utf-8")


def add_extras(names: list[str]) -> list[str]:
    """Return the options that add extras of the project."""
    return [option for name in names for option in ("--extra", name)]


def read_names(requirements: list[str]) -> list[str]:
    """Return the names of the packages that are required."""
    return [Requirement(requirement).name for requirement in requirements]


def main() -> int:
    """Remake all locks, the main one first."""
    upgrade = sys.argv[1:]
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    course = add_extras(["course", "dev-connector", "dev"])
    compile_lock(LOCK, PROJECT, *course, "-c", HELD_BACK, *upgrade)
    pins = PINNED.findall(LOCK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        same, tests = Path(folder) / "constraints.txt", Path(folder) / "tests.txt"
        same.write_text("\n".join(pins), encoding="utf-8")
        held = ["--no-annotate", "-c", str(same), *upgrade]
        compile_lock(LOCKS / "beyond.lock", PROJECT, *held, *course, *add_extras(BEYOND))
        compile_lock(LOCKS / "site.lock", PROJECT, *held, *course, *add_extras(["site"]))
        compile_lock(
            LOCKS / "cross-encoder.lock", PROJECT, *held, *course, *add_extras(["cross-encoder"]), with_torch=True
        )
        for name in ("connector", "upstream"):
            compile_lock(LOCKS / f"{name}.lock", PROJECT, *held, *add_extras([f"dev-{name}"]))
        # Only the connector's own dependencies are lowered, also below what the lock contains now; not what tests them.
        testing = read_names(project["optional-dependencies"]["dev-connector"])
        tests.write_text("\n".join(pin for pin in pins if pin.split("==")[0] in testing), encoding="utf-8")
        lowered = [word for name in read_names(project["dependencies"]) for word in ("--upgrade-package", name)]
        lowest = ["--resolution", "lowest-direct", *add_extras(["dev-connector"]), "-c", str(tests)]
        compile_lock(LOCKS / "floors.lock", PROJECT, "--no-annotate", *lowest, *lowered, *upgrade)
    compile_lock(LOCKS / "clients.lock", LOCKS / "clients.in", "--no-annotate", *upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
