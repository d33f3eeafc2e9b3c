"""The command line: `python -m nvrerank_helpers demo`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from nvrerank_helpers.errors import RerankError
from nvrerank_helpers.nim_standin.process import StandInError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        arguments: What stands behind the program's name; None takes it from the command line.

    Returns:
        The exit status: 0, or 1 with one message on stderr where the command could not do its work.

    Example:
        >>> main(["demo", "--json", "figures.json"])  # doctest: +SKIP
    """
    parser = argparse.ArgumentParser(prog="python -m nvrerank_helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="rerank every test question and print what it brings")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    asked = parser.parse_args(arguments)
    try:
        return _demo(asked.json)
    except (RerankError, StandInError, ValueError, OSError) as error:
        print(f"nvrerank_helpers: {error}", file=sys.stderr)
        return 1


def _demo(json_file: Path | None) -> int:
    if importlib.util.find_spec("ir_measures") is None:
        raise StandInError("The demo needs the course's parts: run  pip install 'nvrerank-helpers[course]'")
    from nvrerank_helpers import demo  # heavy, and only there with the extra

    demo.main(json_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
