"""The document of the API is true: schemathesis makes requests from it and holds every answer against it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvrerank_helpers.nim_standin.process import StandIn

HERE = Path(__file__).parent
OPTIONS = [
    f"--config-file={HERE / 'schemathesis.toml'}",
    "run",
    "--checks=all",
    "--max-examples=20",
    "--generation-deterministic",
    "--no-color",
]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


# The controls are asked apart: the faults and behaviours that they set would change the answers of the other routes.
@pytest.mark.parametrize("which", ["--exclude-path-regex=^/stand-in/", "--include-path-regex=^/stand-in/"])
def test_every_answer_is_as_documented(standin: StandIn, which: str, tmp_path: Path) -> None:
    document = f"{standin.base_url.removesuffix('/v1')}/openapi.json"
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": f"{HERE}{os.pathsep}" + os.environ.get("PYTHONPATH", ""),
    }
    program = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    run = subprocess.run(
        [sys.executable, "-c", program, *OPTIONS, which, document],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert standin.running
