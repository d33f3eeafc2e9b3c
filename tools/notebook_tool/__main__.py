"""Make and check the notebooks of the course: `python -m tools.notebook_tool COMMAND`.

    build [NAME…]                run the sources, write the notebooks and the course tables
    check [NAME…] [--rerun]      do sources, notebooks, catalogue and README agree? Does another run show the same?
    readme                       write the course tables into README.md and notebooks/README.md
    solved --to DIR [NAME…]      write the notebooks with their exercises solved, for tests
    paths [NAME…]                print the paths of the notebooks, for other commands

A NAME is a file name without ending, such as `00_start_here`; no NAME means all, `--extras` those that need extras of
the package, `--no-extras` the others. notebooks/source/README.md explains how a source is written.

A notebook runs in its folder, without `NVIDIA_*` variables, so the outputs are those of the local stand-in. What was
written to stderr, execution times and memory addresses are dropped, and the folders of this machine become `.`, `~` and
`<temporary folder>`.
"""

import argparse
import sys
import time
from pathlib import Path

from tools.notebook_tool.catalogue import CourseError, fill_readme
from tools.notebook_tool.checks import course_problems, notebook_problems
from tools.notebook_tool.compare import rerun_problem
from tools.notebook_tool.execute import execute
from tools.notebook_tool.source import Course, to_text

ROOT = Path(__file__).resolve().parents[2]


def build(course: Course, names: list[str]) -> None:
    """Run each notebook's source and write the notebook with its outputs."""
    for name in names:
        started = time.monotonic()
        notebook = course.make(name)
        notes = execute(course, notebook)
        size = _write(course.notebook(name), to_text(notebook))
        seconds = time.monotonic() - started
        print(f"{name}: {len(notebook.cells)} cells, {size / 1000:.0f} kB, {seconds:.1f} s")
        for note in notes:
            print(f"  {note}")


def check(course: Course, names: list[str], *, rerun: bool) -> list[str]:
    """Return all that is wrong; run the notebooks again only where nothing else is."""
    found = list(course_problems(course))
    for name in names:
        if course.source(name).exists():
            found += notebook_problems(course, name)
    if rerun and not found:
        found = [line for name in names if (line := rerun_problem(course, name))]
    return found


def write_tables(course: Course) -> None:
    """Write the course tables between the markers in README.md and notebooks/README.md."""
    for path, table in course.tables().items():
        _write(path, fill_readme(path.read_text(encoding="utf-8"), "course", table))


def write_solved(course: Course, names: list[str], to: Path) -> None:
    """Write the notebooks with their exercises solved, not run, into a folder."""
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("*.ipynb"):  # of notebooks that have another name now
        old.unlink()
    for name in names:
        _write(to / f"{name}.ipynb", to_text(course.make(name, solved=True)))


def choose(course: Course, names: list[str], *, extras: bool | None) -> list[str]:
    """Return the notebooks that are meant, in the order of the catalogue or as they were named."""
    catalogue = course.catalogue
    entries = [catalogue[name] for name in names] or catalogue.entries
    return [entry.file for entry in entries if extras is None or bool(entry.extras) == extras]


def _write(path: Path, text: str) -> int:
    """Write UTF-8 with plain line ends and return the number of bytes."""
    return path.write_bytes(text.encode("utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebook_tool",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("build", "check", "readme", "solved", "paths"):
        sub = commands.add_parser(command)
        if command != "readme":
            sub.add_argument("names", nargs="*", metavar="NAME", help="notebooks; all if none is named")
            sub.add_argument("--extras", action=argparse.BooleanOptionalAction, help="only those with, or without")
        if command == "check":
            sub.add_argument("--rerun", action="store_true", help="run the notebooks again, compare the outputs")
        if command == "solved":
            sub.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write to")
    return parser


def main(arguments: list[str] | None = None, course: Course | None = None) -> int:
    """Do what the command line says; return 0 if all is well, 1 with what is wrong on stderr."""
    options = _parser().parse_args(arguments)
    course = course or Course(ROOT)
    try:
        names = choose(course, getattr(options, "names", []), extras=getattr(options, "extras", None))
        found: list[str] = []
        if options.command == "build":
            build(course, names)
        if options.command in ("build", "readme"):
            write_tables(course)
        if options.command == "paths":
            print(*(course.notebook(name) for name in names), sep="\n")
        if options.command == "solved":
            write_solved(course, names, options.to)
        if options.command == "check":
            found = check(course, names, rerun=options.rerun)
            print(f"{len(names)} notebooks checked: " + (f"{len(found)} problems" if found else "all is well"))
    except CourseError as error:
        found = [str(error)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
