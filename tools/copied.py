"""Run the connector's tests on a copy of its folder, such as you make when you take it into your project.

The copy is `mysearch.rerank` in a temporary folder, with the tests and without the rest of the project. `make copied`
runs this in an environment that has the connector's own dependencies only.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = "mysearch.rerank"


def copy_all(target: Path) -> None:
    """Copy the connector under its new name, with its tests and the modules and settings that they use."""
    without = shutil.ignore_patterns("__pycache__")
    package = target.joinpath(*COPY.split("."))
    shutil.copytree(ROOT / "nvrerank_helpers" / "connector", package, ignore=without)
    (package.parent / "__init__.py").touch()
    for name in ("connector", "fakes", "offline"):
        shutil.copytree(ROOT / "tests" / name, target / "tests" / name, ignore=without)
    helpers = [path for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")]
    for path in [ROOT / "conftest.py", ROOT / "pyproject.toml", *helpers]:
        shutil.copy(path, target / path.relative_to(ROOT))


def main() -> int:
    """Copy, test, and return pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        copy_all(Path(folder))
        # By the path, Pythons that a test starts find the copy too.
        env = os.environ | {"NVRERANK_CONNECTOR": COPY, "PYTHONPATH": folder}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:], "tests/connector"]
        return subprocess.run(command, cwd=folder, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
