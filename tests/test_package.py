"""Rules of the house that no linter knows: who may import whom, and what a bare install must not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nvrerank_helpers

PACKAGE = Path(nvrerank_helpers.__file__).parent
ORDER = [
    "connector",
    "extras",
    "nim_standin",
    "connect",
    "lesson",
    "leaks",
    "keychain",
    "answering",
    "pydocs",
    "retrieval",
    "stores",
    "evaluation",
    "pooling",
    "tradeoff",
    "coverage",
    "significance",
    "exercises",
    "charts",
    "pages",
    "thresholds",
    "load",
    "drills",
    "timelines",
    "spans",
    "tracing",
    "demo",
    "bulk",
    "__main__",
]
LIBRARY = ORDER[: ORDER.index("nim_standin")]
COURSE_ONLY = {
    "fastapi",
    "uvicorn",
    "ctranslate2",
    "faiss",
    "wordllama",
    "bm25s",
    "ir_measures",
    "pandas",
    "altair",
    "numpy",
    "scipy",
    "keyring",
    "dotenv",
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files(module):
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]


def ours(module):
    names = {name for path in files(module) for name in imports(path) if name.startswith("nvrerank_helpers.")}
    return {name.split(".")[1] for name in names} - {module}


def test_every_module_has_its_place_in_the_order():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_those_before_it(module):
    assert ours(module) <= set(ORDER[: ORDER.index(module)])


def test_the_connector_can_be_copied_since_it_imports_only_from_its_own_folder():
    for path in files("connector"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not ours("connector")
        assert all(node.level < 2 for node in nodes), path


def test_importing_the_stand_in_loads_no_llamaindex():
    code = "import sys, nvrerank_helpers.nim_standin.app; print('llama_index' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("library", "modules"),
    [("aiohttp", {"transport"}), ("httpx", {"answering", "client", "control", "reranker", "transport"})],
)
def test_http_libraries_are_imported_where_requests_are_made_and_where_clients_are_passed_on(library, modules):
    assert {path.stem for path in PACKAGE.rglob("*.py") if library in set(imports(path))} == modules


@pytest.mark.parametrize("module", LIBRARY)
def test_the_connector_needs_nothing_of_the_course(module):
    assert not COURSE_ONLY & {name.split(".")[0] for path in files(module) for name in imports(path)}


def test_importing_the_package_loads_neither_llamaindex_nor_the_engines():
    code = f"import sys, nvrerank_helpers; print(sorted({COURSE_ONLY | {'llama_index', 'torch'}!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'NvidiaRerank'"):
        nvrerank_helpers.NvidiaRerank  # noqa: B018
