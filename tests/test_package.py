"""Rules that no linter knows: which folder may import from which, and what a bare install must not need."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import nvrerank_helpers

PACKAGE = Path(nvrerank_helpers.__file__).parent
ROOT = PACKAGE.parent
MAY_IMPORT = {
    "connector": set(),
    "minilm": set(),
    "pydocs": set(),
    "retrieval": {"connector", "minilm"},
    "evaluation": {"connector", "pydocs"},
    "tracing": {"connector", "evaluation"},
    "nim_standin": {"connector", "minilm"},
    "bulk": {"connector"},
    "connect": {"connector", "nim_standin"},
    "lessons": {"connector", "pydocs", "retrieval", "evaluation", "tracing", "nim_standin", "bulk", "connect"},
    "__main__": {"connector", "nim_standin", "bulk", "lessons"},
}
SUBPACKAGES = sorted(MAY_IMPORT.keys() - {"connect", "__main__"})
EVERYWHERE = {"extras"}  # the error for a missing extra
COURSE_ONLY = {
    *["fastapi", "uvicorn", "ctranslate2", "faiss", "wordllama", "bm25s", "ir_measures", "pandas", "altair", "numpy"],
    *["scipy", "keyring", "dotenv"],
}


def imports(source):
    """Give (module, names) for each import of a source text, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            yield from ((alias.name, set()) for alias in node.names)


def files(part):
    return sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]


def ours(sources, own=""):
    """Give (subpackage or module, the path inside it, names) for what is imported of ours from outside `own`."""
    for source in sources:
        for module, names in imports(source):
            part, _, inside = module.removeprefix("nvrerank_helpers.").partition(".")
            if module.startswith("nvrerank_helpers.") and part != own:
                yield part, inside, names


def texts(part):
    return [path.read_text(encoding="utf-8") for path in files(part)]


def test_every_folder_has_a_row_and_few_files_are_beside_them():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == MAY_IMPORT.keys() | EVERYWHERE
    assert len([path for path in PACKAGE.iterdir() if path.suffix == ".py"]) <= 5


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_folder_imports_only_from_those_of_its_row(part):
    allowed = MAY_IMPORT[part] | (EVERYWHERE if part not in ("connector", "pydocs") else set())
    assert {imported for imported, _, _ in ours(texts(part), part)} <= allowed


def test_no_rows_go_round_in_a_circle():
    done = set()
    while ready := {part for part in MAY_IMPORT.keys() - done if MAY_IMPORT[part] <= done}:
        done |= ready
    assert done == MAY_IMPORT.keys()


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_folder_imports_only_what_another_one_exports(part):
    for imported, inside, names in ours(texts(part), part):
        assert not inside, f"{part}: {imported}.{inside}"
        if imported in SUBPACKAGES:
            assert names <= set(import_module(f"nvrerank_helpers.{imported}").__all__), (part, imported)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "source").glob("*.py")), ids=lambda path: path.stem)
def test_no_cell_imports_deeper_than_a_subpackage(path):
    source = path.read_text(encoding="utf-8")
    assert [found for found in ours([source.replace("# <starter> ", "")]) if found[1]] == []


def test_the_connector_can_be_copied_since_it_imports_only_from_its_own_folder():
    for source in texts("connector"):
        for module, _ in imports(source):
            assert not module.startswith(("nvrerank_helpers", ".."))


def test_importing_the_stand_in_loads_no_llamaindex():
    code = "import sys, nvrerank_helpers.nim_standin.app; print('llama_index' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("library", "modules"),
    [("aiohttp", {"transport"}), ("httpx", {"answering", "client", "control", "reranker", "transport"})],
)
def test_http_libraries_are_imported_where_requests_are_made_and_where_clients_are_passed_on(library, modules):
    found = {path.stem for path in PACKAGE.rglob("*.py") if library in dict(imports(path.read_text(encoding="utf-8")))}
    assert found == modules


@pytest.mark.parametrize("part", ["connector", "extras"])
def test_the_connector_needs_nothing_of_the_course(part):
    assert not COURSE_ONLY & {module.split(".")[0] for source in texts(part) for module, _ in imports(source)}


def test_importing_the_package_loads_neither_llamaindex_nor_the_engines():
    code = f"import sys, nvrerank_helpers; print(sorted({COURSE_ONLY | {'llama_index', 'torch'}!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"No .* attribute"):
        nvrerank_helpers.NvidiaRerank  # noqa: B018
