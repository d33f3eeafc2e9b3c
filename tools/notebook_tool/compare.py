"""Compare the outputs of a cell with those of another run, which may have been on another kind of processor.

The relevance model runs in int8, and its rounding depends on the processor. Measured with oneDNN limited to AVX2 in
place of AVX-512: 97 % of the logits change, by 0.06 on average and 0.31 at most; hit@1 of 74 questions changes by
0.014; passages that are nearly tied change places.
"""

# nbformat has no type hints.
# mypy: allow-untyped-calls

import difflib
import re

import nbformat
from nbformat import NotebookNode

from .execute import execute
from .source import TIMING_TAG, Course, get_tags

NUMBER = re.compile(r"(?<![\w.@#])[-+]?\d+(?:\.\d+)?")  # not those in names, such as nDCG@10 and reference.calls#3
ABSOLUTE, RELATIVE = 0.05, 0.1  # numbers below 10 without decimals, such as ranks, must be equal
OTHER_LINES = 0.1  # of the lines of a cell, for passages that change places
SVG_WORDS = re.compile(r'<title>([^<]+)</title>|<svg\b[^>]*aria-label="([^"]+)"')


def list_lines(cell: NotebookNode, *, drawings: bool = True) -> list[str]:
    """Return a cell's outputs as lines of text; without drawings, a figure is its description."""
    lines: list[str] = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            lines += [f"[{output.name}]", *output.text.splitlines()]
        elif output.output_type == "error":
            lines += ["[error]", output.ename, output.evalue]
        else:
            for mime, data in sorted(output.data.items()):
                described = mime.startswith("image/") and not drawings
                text = "\n".join(title or label for title, label in SVG_WORDS.findall(data)) if described else str(data)
                lines += [f"[{mime}]", *text.splitlines()]
    return lines


def differ(old: list[str], new: list[str]) -> bool:
    """Return whether two outputs differ by more than another processor explains.

    Example:
        >>> differ(["shutil.rmtree -2.945"], ["shutil.rmtree  -3.117"])
        False
        >>> differ(["shutil.rmtree -2.945"], ["os.rmdir      -2.945"])
        True
    """
    if len(old) != len(new):
        return True
    return sum(map(_differ, old, new)) > OTHER_LINES * len(old)


def _differ(old: str, new: str) -> bool:
    if [NUMBER.sub("0", word) for word in old.split()] != [NUMBER.sub("0", word) for word in new.split()]:
        return True
    numbers = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(new)), strict=True)
    return any(abs(one - other) > ABSOLUTE + RELATIVE * abs(one) for one, other in numbers)


def rerun_problem(course: Course, name: str) -> str | None:
    """Run a notebook again and return the first cell that shows something else; cells tagged `timing` may.

    Raises:
        CourseError: A cell failed.
    """
    committed = nbformat.read(course.notebook(name), as_version=4)
    fresh = course.make(name)
    execute(course, fresh)
    for number, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True), start=1):
        before, after = (list_lines(cell, drawings=False) for cell in (old, new))
        if TIMING_TAG not in get_tags(new) and differ(before, after):
            lines = difflib.unified_diff(before, after, "committed", "fresh run", n=1, lineterm="")
            diff = "\n".join(f"    {line[:160]}" for line in lines)
            return f"{name}: cell {number} shows something else when run again\n{diff}"
    return None
