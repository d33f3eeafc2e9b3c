"""What must not change while the package is rebuilt: public names, --help, and the bytes of requests.

The recordings are of commit 0b4e618; an issue that changes one of them on purpose changes the file with it.
To record anew: `pytest tests/golden --record`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nvrerank_helpers
from golden.wire import CALLS, record, recording
from nvrerank_helpers import NVIDIARerank

HERE = Path(__file__).parent
COMMANDS = {
    "nvrerank": ["nvrerank_helpers", "--help"],
    "nvrerank-demo": ["nvrerank_helpers", "demo", "--help"],
    "nvrerank-check": ["nvrerank_helpers", "check", "--help"],
    "nvrerank-bulk": ["nvrerank_helpers", "bulk", "--help"],
    "stand-in": ["nvrerank_helpers.nim_standin", "--help"],
}


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Any:
    """Compare with a recorded file, or record it."""

    def compare(file: str, found: Any) -> None:
        path = HERE / file
        if request.config.getoption("--record"):
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        assert found == json.loads(path.read_text(encoding="utf-8"))

    return compare


def test_public_names(golden: Any) -> None:
    golden(
        "public_names.json",
        {"nvrerank_helpers": sorted(nvrerank_helpers.__all__), "settings": sorted(NVIDIARerank.model_fields)},
    )


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse writes its usage in another way")
@pytest.mark.parametrize("name", COMMANDS)
def test_help(golden: Any, name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    golden(f"help-{name}.json", re.sub(r"\s+", " ", run.stdout))


@pytest.mark.parametrize("name", CALLS)
def test_requests(golden: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as service:
        golden(f"requests-{name}.json", record(name, service, monkeypatch))
