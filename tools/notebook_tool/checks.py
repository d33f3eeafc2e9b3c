"""Find where sources, catalogue, notebooks and README disagree, or contain what must not be committed."""

# nbformat has no type hints.
# mypy: allow-untyped-calls

import os
import re
from collections.abc import Iterator
from itertools import zip_longest
from urllib.parse import urlsplit

import nbformat
from nbformat import NotebookNode

from .catalogue import CourseError, fill_readme
from .compare import list_lines
from .source import CHECK_TAG, Course, get_tags, to_text

MAX_BYTES = 150_000
OUTPUT_TYPES = {"text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png"}
FORBIDDEN = {
    "an API key": re.compile(r"nvapi-[A-Za-z0-9_-]{8,}"),
    "an absolute path": re.compile(
        r"(?<![\w.~/<-])(?:/(?:home|Users|tmp)/[\w.-]+|/root(?![\w-])|/(?:private/)?var/folders/)"
        r"|[A-Za-z]:\\{1,2}Users\\",
    ),
    "the address of a package index": re.compile(r"https?://[^\s\"'<>]+/simple\b|--(?:extra-)?index-url"),
}


def course_problems(course: Course) -> Iterator[str]:
    """Yield what is wrong with the course as a whole: missing or unlisted files, a stale table."""
    listed = {entry.file for entry in course.catalogue.entries}
    sources = {path.stem for path in (course.folder / "source").glob("*.py")}
    notebooks = {path.stem for path in course.folder.glob("*.ipynb")}
    yield from (f"{name}: has a source but no entry in catalogue.toml" for name in sorted(sources - listed))
    yield from (f"{name}: has a notebook but no source" for name in sorted(notebooks - sources))
    yield from (f"{name}: is listed in catalogue.toml but has no source" for name in sorted(listed - sources))
    for path, table in course.tables().items():
        name = path.relative_to(course.root).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
            if fill_readme(text, "course", table) != text:
                yield f"{name}: the course table is stale, run: python -m tools.notebook_tool readme"
        except CourseError as error:
            yield f"{name}: {error}"


def notebook_problems(course: Course, name: str) -> Iterator[str]:
    """Yield what is wrong with one committed notebook that has a source, without running it."""
    path = course.notebook(name)
    rebuild = f"run: python -m tools.notebook_tool build {name}"
    if not path.exists():
        yield f"{name}: there is no notebook, {rebuild}"
        return
    raw = path.read_bytes()
    notebook = nbformat.reads(raw.decode("utf-8"), as_version=4)
    try:
        expected = course.make(name)
    except CourseError as error:
        yield str(error)
        return
    if len(raw) > MAX_BYTES:
        yield f"{name}: {len(raw) / 1000:.0f} kB, at most {MAX_BYTES / 1000:.0f} kB are allowed"
    if raw != to_text(notebook).encode():
        yield f"{name}: the file was saved in another form than the tool's, {rebuild}"
    if notebook.metadata != expected.metadata or notebook.nbformat_minor != expected.nbformat_minor:
        yield f"{name}: metadata or stamp differ from the source's, {rebuild}"
    pairs = zip_longest(map(_identify, expected.cells), map(_identify, notebook.cells))
    if different := next((number for number, (wanted, found) in enumerate(pairs, start=1) if wanted != found), None):
        yield f"{name}: cell {different} is not what the source makes, edit the source, then {rebuild}"
    for number, problem in _cell_problems(notebook):
        yield f"{name}: cell {number} {problem}"


def _identify(cell: NotebookNode) -> tuple[object, ...]:
    return cell.cell_type, cell.source, cell.get("id"), dict(cell.metadata)


def _cell_problems(notebook: NotebookNode) -> Iterator[tuple[int, str]]:
    """Yield, with the cell's number, what no committed cell may contain."""
    count, forbidden = 0, _forbidden()
    for number, cell in enumerate(notebook.cells, start=1):
        text = "\n".join([cell.source, *list_lines(cell)])
        for what, pattern in forbidden.items():
            if found := pattern.search(text):
                # A key is named, never repeated.
                yield number, f"contains {what}" + ("" if "key" in what else f": {found.group()}")
        if cell.cell_type != "code":
            continue
        count += 1
        if cell.execution_count != count:
            yield number, f"has the counter {cell.execution_count}, not {count}: run from top to bottom"
        yield from ((number, problem) for problem in map(_output_problem, cell.outputs) if problem)
        if CHECK_TAG in get_tags(cell) and not any("Not yet" in line for line in list_lines(cell)):
            yield number, "checks an untouched exercise and must say 'Not yet'"


def _forbidden() -> dict[str, re.Pattern[str]]:
    """Return the patterns to refuse, with the package-index hosts of this machine among them."""
    variables = [value for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*(INDEX|LINKS)", name)]
    hosts = {host for value in variables for word in value.split() if (host := urlsplit(word).hostname)}
    private = {"the host of a package index": re.compile("|".join(map(re.escape, sorted(hosts))))} if hosts else {}
    return FORBIDDEN | private


def _output_problem(output: NotebookNode) -> str | None:
    """Return what is wrong with one output, or None."""
    if output.output_type == "error":
        return f"ends in an error, catch it and show it: {output.ename}"
    if output.get("name") == "stderr":
        return "keeps what was written to stderr"
    foreign = set(output.get("data", {})) - OUTPUT_TYPES
    if foreign:
        return f"has an output that many viewers cannot show: {', '.join(sorted(foreign))}"
    if "<script" in output.get("data", {}).get("text/html", ""):
        return "has an output that needs a script to be seen"
    return None
