import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import connector_alias

USE = """
import connector_alias; connector_alias.install()
import connector.errors
from connector import errors
from connector.errors import where
print(connector.__name__, errors is connector.errors, where())
print(sorted(name for name in __import__("sys").modules if name.startswith("nvrerank_helpers")))
"""


def test_the_alias_is_the_package_itself():
    connector_alias.install()
    name = connector_alias.package_name()
    for ending in ("", ".errors", ".models"):
        real = import_module(name + ending)
        assert import_module(f"connector{ending}") is real is sys.modules[name + ending]
        assert real.__name__ == real.__spec__.name == name + ending
    assert import_module("connector").errors is sys.modules[f"{name}.errors"]


def test_installing_twice_adds_one_finder():
    connector_alias.install()
    connector_alias.install()
    assert sum(isinstance(finder, connector_alias.AliasFinder) for finder in sys.meta_path) == 1


def test_the_environment_names_another_package(tmp_path):
    package = tmp_path / "mysearch" / "rerank"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "errors.py").write_text("def where(): from .models import PLACE; return PLACE")
    (package / "models.py").write_text("PLACE = __name__")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"NVRERANK_CONNECTOR": "mysearch.rerank", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error", "-c", USE]
    said = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "mysearch.rerank True mysearch.rerank.models\n[]\n"
