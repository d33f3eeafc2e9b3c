"""The cell marked "copy this" of each notebook runs on its own, outside the course."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from nvrerank_helpers.nim_standin import StandIn
from tools.notebook_tool.source import Course

COURSE = Course(Path(__file__).parents[2])
EXTRAS_ARE_HERE = importlib.util.find_spec("ray") is not None  # all or none: `make extras`, `make test-extras`
NOTEBOOKS = [COURSE.notebook(entry.file) for entry in COURSE.catalogue.entries if EXTRAS_ARE_HERE or not entry.extras]


@pytest.fixture(scope="module")
def catalog() -> Iterator[str]:
    with StandIn("--behaviour=catalog") as standin:
        yield standin.base_url.removesuffix("/v1")


def marked(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if "copy-this" in cell.metadata.get("tags", ())]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cell_to_copy_runs_on_its_own(path: Path, catalog: str, tmp_path: Path) -> None:
    (code,) = marked(path)
    service = {"NVRERANK_CATALOG_URL": catalog, "NVIDIA_API_KEY": "nvapi-of-nobody"}
    script = tmp_path / "copied.py"
    script.write_text(code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script], env=os.environ | service, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
