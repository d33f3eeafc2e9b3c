"""Run notebooks against the services that readers have, with no cell changed: `python -m … NOTEBOOK…`.

Without a key `make test` does it. Here a stand-in plays NVIDIA's API catalog while a key is set, and another one is the
reader's own NIM.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nvrerank_helpers.connector import ADDRESS_VARIABLE, CATALOG_VARIABLE, KEY_VARIABLE
from nvrerank_helpers.nim_standin import StandIn

ROOT = Path(__file__).parents[2]


def run_all(notebooks: Sequence[str], settings: Mapping[str, str]) -> int:
    """Run the notebooks with these settings in the environment, and return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "--nbmake", *notebooks]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=False).returncode


def main() -> int:
    """Run those of the command line against both services; the exit code tells whether all of them passed."""
    notebooks = sys.argv[1:]
    # The free tier's 40 requests a minute would take an hour: the limit is a lesson, not a part of this test.
    with StandIn("--behaviour=catalog", "--requests-per-minute=1000000") as catalog:
        print("The API catalog, with a key:", flush=True)
        address = catalog.base_url.removesuffix("/v1")
        hosted = run_all(notebooks, {CATALOG_VARIABLE: address, KEY_VARIABLE: "nvapi-of-nobody"})
    with StandIn() as nim:
        print("A NIM of one's own:", flush=True)
        own = run_all(notebooks, {ADDRESS_VARIABLE: nim.base_url})
    return hosted or own


if __name__ == "__main__":
    sys.exit(main())
