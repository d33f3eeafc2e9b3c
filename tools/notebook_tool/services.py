"""Run notebooks against the services that readers have, with no cell changed: `python -m … NOTEBOOK…`.

`make test` runs them without a key. Here one stand-in plays NVIDIA's API catalog while a key is set, and another one is
your own NIM.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nvrerank_helpers.connector import ADDRESS_VARIABLE, CATALOG_VARIABLE, KEY_VARIABLE
from nvrerank_helpers.nim_standin import StandIn

ROOT = Path(__file__).parents[2]


def run_notebooks(settings: Mapping[str, str]) -> int:
    """Run the notebooks of the command line with these environment variables; return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "--nbmake", "-n", "2", *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=False).returncode


def main() -> int:
    """Run the notebooks against both services; return 0 if all of them passed."""
    # With the free tier's 40 requests a minute this would take an hour, and the limit is not what is tested here.
    with StandIn("--behaviour=catalog", "--requests-per-minute=1000000") as catalog:
        print("The API catalog, with a key:", flush=True)
        address = catalog.base_url.removesuffix("/v1")
        hosted = run_notebooks({CATALOG_VARIABLE: address, KEY_VARIABLE: "nvapi-of-nobody"})
    with StandIn() as nim:
        print("Your own NIM:", flush=True)
        own = run_notebooks({ADDRESS_VARIABLE: nim.base_url})
    return hosted or own


if __name__ == "__main__":
    sys.exit(main())
