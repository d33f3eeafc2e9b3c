"""How we name and write: functions begin with a verb, a name means one thing, and no literal translations."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nvrerank_helpers"
PARTS = [*sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")), "*.py"]
PHRASES = re.compile(
    r"\bstands\b|\bof (its|one's|our) own\b|\ban own\b|\bbelongs into\b|\bin vain\b|\btold by\b"
    r"|\bleave\b.{1,20}\baway\b|\bnothing of (this|it)\b|\bone after the other\b|\bbeforehand\b"
    r"|\bis no (address|number|key|reader)\b|\bby itself\b",
    re.IGNORECASE,
)
REGULAR = re.compile(r".+(ed|ing)$")
VERBS = {"bring", "embed", "feed", "need", "proceed", "ring", "seed", "speed", "string"}
IRREGULAR = {
    *["begun", "bound", "bought", "brought", "built", "caught", "chosen", "done", "drawn", "fallen", "felt", "found"],
    *["given", "gone", "grown", "held", "hidden", "kept", "known", "laid", "left", "lent", "lost", "made", "meant"],
    *["met", "paid", "said", "seen", "sent", "shown", "sold", "spent", "spoilt", "spoken", "struck", "sung", "sunk"],
    *["taken", "taught", "thought", "told", "torn", "woken", "won", "worn", "written"],
}


def python_files(*parts):
    for part in parts:
        yield from PACKAGE.glob("*.py") if part == "*.py" else (PACKAGE / part).rglob("*.py")


def functions(path):
    """Give the functions and methods of a file; a property is a value and may be named for its state."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
            if not decorators & {"property", "cached_property", "setter"}:
                yield node.name


def begins_with_a_participle(name):
    word = name.strip("_").split("_")[0]
    return word in IRREGULAR or (bool(REGULAR.match(word)) and word not in VERBS)


@pytest.mark.parametrize("part", PARTS)
def test_no_function_begins_with_a_participle(part):
    found = {name for path in python_files(part) for name in functions(path) if begins_with_a_participle(name)}
    assert found == set()


def test_a_class_or_public_function_has_its_name_for_itself():
    homes = defaultdict(list)
    for path in python_files(*PARTS):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named and not (node.name.startswith("_") or node.name == "main"):
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def texts():
    for pattern in ("nvrerank_helpers/**/*.py", "tests/**/*.py", "tools/**/*.py", "benchmarks/*.py", "docs/*.py"):
        yield from ROOT.glob(pattern)
    for pattern in ("*.md", "[!.b]*/**/*.md", "benchmarks/*.md", "notebooks/source/*.py", "Makefile", "pyproject.toml"):
        yield from ROOT.glob(pattern)


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in texts()}))
def test_no_text_has_a_phrase_that_reads_like_a_translation(folder):
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in texts()
        if path.relative_to(ROOT).parts[0] == folder and path != Path(__file__)
        for match in PHRASES.finditer(" ".join(path.read_text(encoding="utf-8").replace("#", " ").split()))
    ]
    assert found == []


@pytest.mark.parametrize("part", PARTS)
def test_every_example_runs(part):
    assert [path.name for path in python_files(part) if "+SKIP" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("part", PARTS)
def test_modules_and_functions_are_short(part):
    for path in python_files(part):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.lineno
                assert node.end_lineno - start < 40, f"{path}: {node.name}"
