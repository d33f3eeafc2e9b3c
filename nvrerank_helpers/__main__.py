"""The command line: `python -m nvrerank_helpers demo`, `... check` and `... bulk`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from nvrerank_helpers.bulk import add_options, run_command
from nvrerank_helpers.connector import RerankError
from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.nim_standin import INSTALL, StandInError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        arguments: The arguments; None takes it from the command line.

    Returns:
        The exit status: 0, or 1 with one message on stderr where the command could not do its work.
    """
    parser = argparse.ArgumentParser(prog="python -m nvrerank_helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="rerank every test question and print what it brings")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    check = commands.add_parser("check", help="check a service: ready, model served, a tiny ranking")
    check.add_argument("--base-url", metavar="ADDRESS", help="of your own NIM; NVIDIA_BASE_URL, else the API catalog")
    check.add_argument("--model", metavar="ID", help="the catalog's current one, or the first that the NIM serves")
    add_options(commands.add_parser("bulk", help="rerank a whole run of queries and passages, on Ray"))
    asked = parser.parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that lacks a character shows a ? instead of nothing
        sys.stdout.reconfigure(errors="replace")
    try:
        return _command(asked)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except (RerankError, RuntimeError, ValueError, OSError, ExtraNotInstalled) as error:
        print(f"nvrerank_helpers: {error}", file=sys.stderr)
        return 1


def _command(asked: argparse.Namespace) -> int:
    if asked.command == "demo":
        return _demo(asked.json)
    if asked.command == "check":
        return _check(asked.base_url, asked.model)
    print(run_command(asked))
    return 0


def _demo(json_file: Path | None) -> int:
    if importlib.util.find_spec("ir_measures") is None:
        raise StandInError("The demo needs the course's parts.", hint=INSTALL)
    from nvrerank_helpers.lessons import print_demo  # heavy, and only there with the extra

    print_demo(json_file)
    return 0


def _check(base_url: str | None, model: str | None) -> int:
    from nvrerank_helpers.connector import NVIDIARerank

    report = NVIDIARerank(base_url=base_url, model=model).check()
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
