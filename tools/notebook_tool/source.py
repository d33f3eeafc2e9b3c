"""From a percent-format source to a notebook without outputs: the reader's, or the solved one for tests."""

# nbformat has no type hints.
# mypy: allow-untyped-calls

import hashlib
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import nbformat
from nbformat import NotebookNode, v4

from .catalogue import Catalogue, CourseError, load_catalogue

STARTER, BEGIN, END = "# <starter>", "# <solution>", "# </solution>"
CHECK_TAG, TIMING_TAG = "check", "timing"

# nbmake runs this after a check cell of a solved notebook; `Out` is IPython's record of displayed values.
ASSERT_RIGHT = "assert Out[max(Out)].state == 'right', Out[max(Out)]"


@dataclass(frozen=True)
class Course:
    """Where the files of the course are."""

    root: Path

    @property
    def folder(self) -> Path:
        """The folder of the notebooks that readers open."""
        return self.root / "notebooks"

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, read from its file."""
        return load_catalogue(self.folder / "catalogue.toml")

    def tables(self) -> dict[Path, str]:
        """Return the course tables that are made from the catalogue, by the file each is in."""
        readme, overview = self.root / "README.md", self.folder / "README.md"
        return {readme: self.catalogue.make_table(), overview: self.catalogue.make_map()}

    def source(self, name: str) -> Path:
        """Return the path of a notebook's source."""
        return self.folder / "source" / f"{name}.py"

    def notebook(self, name: str) -> Path:
        """Return the path of a notebook."""
        return self.folder / f"{name}.ipynb"

    def make(self, name: str, *, solved: bool = False) -> NotebookNode:
        """Make a notebook from its source, without outputs, with header, links, cell ids and stamp.

        Args:
            name: File name without ending, such as `00_start_here`.
            solved: Keep the exercises' solutions in place of their starters, and have nbmake assert that
                each check says "right".

        Raises:
            CourseError: The source is missing or breaks a convention.
        """
        path = self.source(name)
        if not path.exists():
            raise CourseError(f"{name}: there is no source, write {path.relative_to(self.root).as_posix()}")
        text = path.read_text(encoding="utf-8")
        try:
            cells = _make_exercises(jupytext.reads(text, fmt="py:percent").cells, solved=solved)
            _frame(cells, self.catalogue, name)
        except CourseError as error:
            raise CourseError(f"{name}: {error}") from error
        notebook: NotebookNode = v4.new_notebook(cells=_add_ids(cells), metadata=_metadata(name, text))
        return notebook


def to_text(notebook: NotebookNode) -> str:
    """Return the one text form in which a notebook is committed."""
    text: str = nbformat.writes(notebook, version=4)
    return text.rstrip("\n") + "\n"


def get_tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return list(cell.metadata.get("tags", []))


def _metadata(name: str, text: str) -> dict[str, Any]:
    """Return a notebook's metadata: kernel, language, and the stamp that ties it to its source."""
    stamp = {"source": f"source/{name}.py", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "nvrerank": stamp,
    }


def _cell(kind: str, source: str, cell_tags: list[str] | None = None) -> NotebookNode:
    """Return a new cell with nothing in it but its text and tags."""
    new = v4.new_markdown_cell if kind == "markdown" else v4.new_code_cell
    cell: NotebookNode = new(source, metadata={"tags": cell_tags} if cell_tags else {})
    return cell


def _make_exercises(read: list[NotebookNode], *, solved: bool) -> list[NotebookNode]:
    """Turn exercise cells into starter or solution, and add the folded solution behind their check."""
    cells: list[NotebookNode] = []
    solution = ""
    for number, old in enumerate(read, start=1):
        cell = _cell(old.cell_type, old.source, old.metadata.get("tags"))
        if old.cell_type == "code" and bool(solution) != (CHECK_TAG in get_tags(cell)):
            raise CourseError(
                f'source cell {number}: exactly the first code cell after an exercise has tags=["{CHECK_TAG}"]'
            )
        cells.append(cell)
        if CHECK_TAG in get_tags(cell):
            if solved:
                cell.metadata["nbmake"] = {"post_cell_execute": [ASSERT_RIGHT]}
            cells.append(_fold(solution))
            solution = ""
        elif old.cell_type == "code" and BEGIN in old.source:
            starter, answer, solution = _split(old.source, number)
            cell.source = answer if solved else starter
    if solution:
        raise CourseError(f'the last exercise has no check cell: add one with tags=["{CHECK_TAG}"]')
    return cells


def _split(source: str, number: int) -> tuple[str, str, str]:
    """Split an exercise cell into the starter cell, the solved cell and the solution alone."""
    markers = [line.strip() for line in source.splitlines() if line.strip() in (BEGIN, END)]
    if markers != [BEGIN, END] or STARTER not in source:
        raise CourseError(f"source cell {number}: an exercise has lines {STARTER} …, then {BEGIN} … {END}, once")
    starter: list[str] = []
    solved: list[str] = []
    solution: list[str] = []
    inside = False
    for line in source.splitlines():
        if line.strip() in (BEGIN, END):
            inside = line.strip() == BEGIN
        elif line.startswith(STARTER):
            starter.append(line.removeprefix(STARTER).removeprefix(" "))
        else:
            solved.append(line)
            (solution if inside else starter).append(line)
    hidden = textwrap.dedent("\n".join(solution)).strip()
    if not hidden:
        raise CourseError(f"source cell {number}: there is nothing between {BEGIN} and {END}")
    return "\n".join(starter), "\n".join(solved), hidden


def _fold(solution: str) -> NotebookNode:
    """Return a Markdown cell that hides a solution until the reader unfolds it."""
    return _cell("markdown", f"<details>\n<summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>")


def _frame(cells: list[NotebookNode], catalogue: Catalogue, name: str) -> None:
    """Add the header under the title and the links at the end."""
    title = f"# {catalogue[name].title}"
    if not cells or cells[0].cell_type != "markdown" or cells[0].source.splitlines()[:1] != [title]:
        raise CourseError(f"the first cell must be Markdown and begin with the catalogue's title: {title}")
    cells[0].source = f"{cells[0].source.rstrip()}\n\n{catalogue.make_header(name)}"
    cells.append(_cell("markdown", catalogue.link_neighbors(name)))


def _add_ids(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Give each cell an id that depends on its text, and on its place among cells with the same text."""
    seen: Counter[str] = Counter()
    for cell in cells:
        text = f"{cell.cell_type}\n{cell.source}"
        cell["id"] = hashlib.sha256(f"{seen[text]}\n{text}".encode()).hexdigest()[:12]
        seen[text] += 1
    return cells
