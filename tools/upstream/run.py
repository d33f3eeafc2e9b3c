"""Run LlamaIndex's own tests of its `NVIDIARerank` with our class: `make upstream TESTS=folder`.

The folder is `llama-index-integrations/postprocessor/llama-index-postprocessor-nvidia-rerank/tests` of LlamaIndex's
repository. The run succeeds if every test passes that passes with LlamaIndex's class, except the deliberate differences
in differences.toml. Nothing leaves this machine: the tests that need NVIDIA's service are skipped.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "offline")]


def main() -> int:
    """Run the tests in the folder that the command line names, and return pytest's exit code."""
    import offline_guard  # type: ignore[import-not-found] # found by the path that is added above

    from tools.upstream.adapter import install_adapter

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the tests")
    asked, options = parser.parse_known_args()
    folder = asked.folder.resolve()
    if not any(folder.rglob("test_*.py")):
        parser.error(f"{asked.folder} is not a folder of tests")
    for name in ("NVIDIA_API_KEY", "NVIDIA_BASE_URL", "NVRERANK_CATALOG_URL"):
        os.environ.pop(name, None)
    offline_guard.install()
    os.chdir(folder)  # so that tests are named by their files alone
    install_adapter()  # before pytest starts, because it imports the folder's conftest.py first
    ours = ["-c", str(HERE / "pytest.ini"), "--rootdir", str(folder), "-p", "tools.upstream.plugin"]
    return pytest.main([*ours, "-p", "no:cacheprovider", *options, str(folder)])


if __name__ == "__main__":
    sys.exit(main())
