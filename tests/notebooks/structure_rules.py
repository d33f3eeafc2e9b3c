"""The structure rules of the course's notebooks, each a function from a notebook to its problems.

How the rules are read: `<details>` blocks (hints, answers, solutions) are folded, so they do not count as
text to read; the words of a Markdown cell are those of its paragraphs, not of headings, lists, tables, code
or quotes; the title cell and the links at the end are made by the tool and do not count either; the lines of
a code cell are those that are not blank.
"""

import ast
import io
import re
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from nbformat import NotebookNode

Rule = Callable[[NotebookNode, Path], Iterator[str]]

DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
NOT_PLAIN = re.compile(r"^\s*[%!]|get_ipython\(|\bpip install\b|subprocess|os\.system|ipywidgets", re.MULTILINE)
VERSION = re.compile(r"\b\d+\.\d+(\.\w+)*\b")
HEADER = ("Level and time", "You will be able to", "You need", "API key", "Data and license")
DATED = re.compile(
    r"\b20\d\d\b|\b(as of|at the time of writing|currently|nowadays|recently|the latest|brand[- ]new|today)\b",
    re.IGNORECASE,
)
HYPE = re.compile(
    r"\b(amazing|awesome|blazing\w*|cutting[- ]edge|effortless(ly)?|game[- ]chang\w+|incredibl[ey]|magical(ly)?"
    r"|next[- ]gen\w*|powerful|revolution\w*|seamless(ly)?|state[- ]of[- ]the[- ]art|supercharge\w*|unleash\w*"
    r"|unlock the \w+|world[- ]class)\b",
    re.IGNORECASE,
)


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells, each with its number among all cells, from 1."""
    return [(n, cell) for n, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]


def lesson_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells but those to copy, which run outside the course and so import and name for themselves."""
    return [(n, cell) for n, cell in code_cells(notebook) if "copy-this" not in cell.metadata.get("tags", [])]


def markdown(source: str) -> list[Token]:
    """Parse Markdown as Jupyter shows it, without what is folded."""
    return MarkdownIt().enable("table").parse(DETAILS.sub("", source))


def headings(notebook: NotebookNode) -> list[tuple[int, str]]:
    """Return level and text of all headings, in order."""
    tokens = [t for cell in notebook.cells if cell.cell_type == "markdown" for t in markdown(cell.source)]
    return [(int(a.tag[1]), b.content) for a, b in pairwise(tokens) if a.type == "heading_open"]


def prose(source: str) -> str:
    """Return the paragraphs of a Markdown cell that are outside lists, tables and quotes."""
    pairs = pairwise(markdown(source))
    return "\n".join(b.content for a, b in pairs if a.type == "paragraph_open" and a.level == 0)


def lines(cell: NotebookNode) -> int:
    """Return the number of lines of a cell that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def section(notebook: NotebookNode, title: str) -> str:
    """Return the text from a level-two heading to the next one or to the last cell, or nothing."""
    text = "\n\n".join(cell.source for cell in notebook.cells[:-1] if cell.cell_type == "markdown")
    found = re.search(rf"^## {title}\s*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def bound_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that a cell assigns, defines or imports, and those it uses as loop variables."""
    assigned: set[str] = set()
    loops: set[str] = set()
    stack: list[tuple[ast.AST, bool]] = [(node, False) for node in tree.body]
    while stack:
        node, in_loop = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assigned.add(node.name)
        elif isinstance(node, ast.alias):
            assigned.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            (loops if in_loop else assigned).add(node.id)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            target = getattr(node, "target", None) if isinstance(node, ast.For | ast.AsyncFor) else None
            stack += [(child, in_loop or child is target) for child in ast.iter_child_nodes(node)]
    return assigned - {"_"}, loops - {"_"}


# Rule 1


def has_one_title_and_skips_no_level(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """One H1, at the top, and each heading at most one level below the one before."""
    found = headings(notebook)
    if [level for level, _ in found].count(1) != 1 or found[0][0] != 1:
        yield "there must be exactly one H1, the first heading"
    for (above, _), (level, title) in pairwise(found):
        if level > above + 1:
            yield f"the heading '{title}' skips from level {above} to {level}"


def opens_with_the_header(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """The title cell contains the header block."""
    for label in HEADER:
        if f"- **{label}:** " not in notebook.cells[0].source:
            yield f"the header has no '{label}'"


def has_15_to_30_cells(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """One notebook, one idea."""
    if not 15 <= len(notebook.cells) <= 30:
        yield f"{len(notebook.cells)} cells, not 15 to 30"


# Rule 2


def explains_at_least_as_much_as_it_runs(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """At least as many Markdown as code cells, never more than two code cells in a row."""
    kinds = [cell.cell_type for cell in notebook.cells]
    if kinds.count("markdown") < kinds.count("code"):
        yield f"{kinds.count('code')} code cells, {kinds.count('markdown')} Markdown cells"
    for number, three in enumerate(zip(kinds, kinds[1:], kinds[2:], strict=False), 1):
        if three == ("code", "code", "code"):
            yield f"three code cells in a row from cell {number}"


def keeps_code_cells_short(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """Half of the code cells have at most 4 lines, nine in ten at most 12, all at most 15."""
    lengths = [lines(cell) for _, cell in code_cells(notebook)]
    if statistics.median(lengths) > 4:
        yield f"the median code cell has {statistics.median(lengths)} lines, more than 4"
    if sum(length <= 12 for length in lengths) < 0.9 * len(lengths):
        yield "more than one code cell in ten has over 12 lines"
    for number, cell in code_cells(notebook):
        if lines(cell) > 15:
            yield f"code cell {number} has {lines(cell)} lines, more than 15"


def keeps_prose_readable(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """A cell of prose has 25 to 60 words in the median and 90 at most."""
    written = enumerate(notebook.cells[1:-1], 2)
    words = {n: len(prose(c.source).split()) for n, c in written if c.cell_type == "markdown"}
    counts = [count for count in words.values() if count]
    if not counts or not 25 <= statistics.median(counts) <= 60:
        yield f"the median cell of prose has {statistics.median(counts or [0])} words, not 25 to 60"
    for number, count in words.items():
        if count > 90:
            yield f"cell {number} has {count} words of prose, more than 90"


# Rule 3


def defines_little(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """Functions and classes take under a tenth of the code lines."""
    defined = total = 0
    for _, cell in code_cells(notebook):
        total += lines(cell)
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined += (node.end_lineno or node.lineno) - node.lineno + 1
    if defined * 10 >= total:
        yield f"{defined} of {total} code lines are definitions, move them to nvrerank_helpers"


# Rule 8


def ends_with_key_points_and_questions(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """The last two sections are the key points and three questions with folded answers."""
    last = [title for level, title in headings(notebook) if level == 2][-2:]
    if last != ["Key points", "Check yourself"]:
        yield f"the last two sections are {last}, not 'Key points' and 'Check yourself'"
    if len(re.findall(r"^[-*] ", section(notebook, "Key points"), re.MULTILINE)) < 2:
        yield "the key points are not a list"
    questions = section(notebook, "Check yourself")
    if len(DETAILS.findall(questions)) != 3:
        yield f"{len(DETAILS.findall(questions))} folded answers under 'Check yourself', not 3"
    if DETAILS.sub("", questions).count("?") < 3:
        yield "there are fewer than three questions under 'Check yourself', each outside its folded answer"


def links_lead_somewhere(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    """Each link to a file of the repository finds it, those to the neighbours among them."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:|#", target) and not (folder / target.partition("#")[0]).exists():
            yield f"the link to {target} leads nowhere"
    if "[All notebooks]" not in notebook.cells[-1].source:
        yield "the last cell is not the links"


# Rule 9


def imports_once_and_shows_versions(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """All imports stand in the first code cell, which shows the versions used."""
    first, *others = lesson_cells(notebook)
    if not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(first[1].source))):
        yield "the first code cell imports nothing"
    if not VERSION.search(str(first[1].outputs)):
        yield "the first code cell shows no version"
    for number, cell in others:
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(cell.source))):
            yield f"cell {number} imports something, the first code cell is the place"


def imports_public_names_only(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """Nothing of the package that begins with an underscore is used."""
    for number, cell in code_cells(notebook):
        if re.search(r"(from|import)\s+nvrerank_helpers\S*\._|from nvrerank_helpers.* import .*\b_", cell.source):
            yield f"cell {number} imports a private name"
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Attribute) and re.match(r"_(?!repr_|_)", node.attr):
                yield f"cell {number} uses the private name {node.attr}"


def runs_plain_python(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """No magics, shell lines, installs, widgets, or semicolons at line ends."""
    for number, cell in code_cells(notebook):
        if NOT_PLAIN.search(cell.source):
            yield f"cell {number} contains a magic, a shell line, an install or a widget"
            continue
        tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
        for one, following in pairwise(tokens):
            ends = following.type in (tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT)
            if one.type == tokenize.OP and one.string == ";" and ends:
                yield f"cell {number} ends a line with a semicolon"


def binds_each_name_in_one_cell(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """No name is assigned in two cells; loop variables may come again as loop variables."""
    assigned_in: dict[str, set[int]] = defaultdict(set)
    loop_in: dict[str, set[int]] = defaultdict(set)
    for number, cell in lesson_cells(notebook):
        assigned, loops = bound_names(ast.parse(cell.source))
        for name in assigned:
            assigned_in[name].add(number)
        for name in loops:
            loop_in[name].add(number)
    for name, cells in assigned_in.items():
        everywhere = sorted(cells | loop_in[name])
        if len(everywhere) > 1:
            yield f"the name {name} is bound in cells {everywhere}"


def stays_true_and_calm(notebook: NotebookNode, _folder: Path) -> Iterator[str]:
    """No dates, no words that age, no hype."""
    for number, cell in enumerate(notebook.cells, 1):
        for pattern, what in ((DATED, "dates the text"), (HYPE, "is hype")):
            found = pattern.search(cell.source) if cell.cell_type == "markdown" else None
            if found:
                yield f"cell {number}: '{found.group()}' {what}"


RULES: tuple[Rule, ...] = (
    has_one_title_and_skips_no_level,
    opens_with_the_header,
    has_15_to_30_cells,
    explains_at_least_as_much_as_it_runs,
    keeps_code_cells_short,
    keeps_prose_readable,
    defines_little,
    ends_with_key_points_and_questions,
    links_lead_somewhere,
    imports_once_and_shows_versions,
    imports_public_names_only,
    runs_plain_python,
    binds_each_name_in_one_cell,
    stays_true_and_calm,
)
