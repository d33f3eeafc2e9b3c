"""Add to `.venv` what notebooks 08 and later need: `make extras`, or `python -m tools.environment.extras`."""

import sys

from tools.environment.setup_advice import SetupError
from tools.environment.setup_env import PYTHON, say, uv_environment, uv_packages
from tools.environment.side_env import LOCKS


def main() -> int:
    """Install the lock of the extras over what is there; nothing is removed."""
    say("Set-up: the packages in locks/beyond.lock into .venv")
    try:
        uv_packages(["install", "--no-deps", "-r", LOCKS / "beyond.lock"], PYTHON, uv_environment())
    except SetupError as failure:
        print(f"Set-up: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
