"""Make and check the notebooks of the course: `python -m tools.notebook_tool COMMAND`.

    build [NAME…]                run the sources and write the notebooks and the course tables
    check [NAME…] [--rerun]      do sources, notebooks, catalogue and README agree?
    readme                       write the course tables into README.md and notebooks/README.md
    solved --to DIR [NAME…]      write the notebooks with their exercises solved, for tests
    paths [NAME…]                print the paths of the notebooks, for other commands

A NAME is a file name without ending, such as `00_start_here`; no NAME means all, `--extras` those that need extras of
the package, `--no-extras` the others.

A notebook has one source, `notebooks/source/NAME.py`, in the percent format of jupytext, and one entry in
`notebooks/catalogue.toml`. Conventions of a source (an example is in `notebooks/source/README.md`):

- `# %% [markdown]` begins a Markdown cell, `# %%` a code cell, `# %% tags=["timing"]` a code cell with tags.
- The first cell is Markdown and begins with `# ` and the title in the catalogue. The tool adds the header
  block to it, and a last cell with the links to the neighbours. Neither is written by hand.
- An exercise is a code cell that holds lines `# <starter> …`, what the reader finds (with `...` or None for
  what is to be done), and then the solution between `# <solution>` and `# </solution>`. Other lines of the
  cell are in both. The next code cell is tagged `check` and ends in a call of
  `nvrerank_helpers.lessons.exercises.check`. The tool puts the solution, folded, behind it.
- `timing` marks a cell whose outputs differ from run to run; `check --rerun` does not compare them.

The tool runs a notebook in its folder, without `NVIDIA_*` variables, so the outputs are those of the local
stand-in. It drops what was written to stderr, execution times and memory addresses, and writes `.`, `~` and
`<temporary folder>` for the folders of this machine.
"""

import argparse
import sys
import time
from pathlib import Path

from tools.notebook_tool.catalogue import CourseError, fill_readme
from tools.notebook_tool.checks import notebook_problems, problems, rerun_problem
from tools.notebook_tool.execute import execute
from tools.notebook_tool.source import Course, canonical

ROOT = Path(__file__).resolve().parents[2]


def build(course: Course, names: list[str]) -> None:
    """Run each notebook's source and write the notebook with its outputs."""
    for name in names:
        started = time.monotonic()
        notebook = course.make(name)
        notes = execute(course, notebook)
        size = _write(course.notebook(name), canonical(notebook))
        seconds = time.monotonic() - started
        print(f"{name}: {len(notebook.cells)} cells, {size / 1000:.0f} kB, {seconds:.1f} s")
        for note in notes:
            print(f"  {note}")


def check(course: Course, names: list[str], *, rerun: bool) -> list[str]:
    """Return all that is wrong; run the notebooks again only where nothing else is."""
    found = list(problems(course))
    for name in names:
        if course.source(name).exists():
            found += notebook_problems(course, name)
    if rerun and not found:
        found = [line for name in names if (line := rerun_problem(course, name))]
    return found


def readme(course: Course) -> None:
    """Write the course tables between the markers in README.md and notebooks/README.md."""
    for path, table in course.tables().items():
        _write(path, fill_readme(path.read_text(encoding="utf-8"), "course", table))


def solved(course: Course, names: list[str], to: Path) -> None:
    """Write the notebooks with their exercises solved, not run, into a folder."""
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("*.ipynb"):  # of notebooks that have another name now
        old.unlink()
    for name in names:
        _write(to / f"{name}.ipynb", canonical(course.make(name, solved=True)))


def chosen(course: Course, names: list[str], *, extras: bool | None) -> list[str]:
    """Return the notebooks that are meant, in reading order of the catalogue or as they were named."""
    catalogue = course.catalogue
    entries = [catalogue[name] for name in names] or catalogue.entries
    return [entry.file for entry in entries if extras is None or bool(entry.extras) == extras]


def _write(path: Path, text: str) -> int:
    """Write UTF-8 with plain line ends and return the number of bytes."""
    return path.write_bytes(text.encode("utf-8"))


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
    """Do what the command line says.

    Args:
        arguments: The words behind the command, from the command line by default.
        course: Where the files are, this repository by default.

    Returns:
        0 if all is well, 1 with what is wrong on stderr.
    """
    options = _parser().parse_args(arguments)
    course = course or Course(ROOT)
    try:
        names = chosen(course, getattr(options, "names", []), extras=getattr(options, "extras", None))
        found: list[str] = []
        if options.command == "build":
            build(course, names)
        if options.command in ("build", "readme"):
            readme(course)
        if options.command == "paths":
            print(*(course.notebook(name) for name in names), sep="\n")
        if options.command == "solved":
            solved(course, names, options.to)
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
