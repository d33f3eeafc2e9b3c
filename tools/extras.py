"""Add to `.venv` what notebooks 08 and later need: `make extras`, or `python tools/extras.py`."""

import sys

from setup_advice import SetupError
from setup_env import PYTHON, UV, run, say, uv_environment
from side_env import LOCKS


def main() -> int:
    """Install the lock of the extras over what is there; nothing is removed."""
    say("Set-up: the packages in locks/beyond.lock into .venv")
    ways = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "--link-mode=copy", "--compile-bytecode"]
    try:
        run(
            [UV, "pip", "install", *ways, "--system-certs", "--python", PYTHON, "-r", LOCKS / "beyond.lock"],
            uv_environment(),
        )
    except SetupError as failure:
        print(f"Set-up: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
