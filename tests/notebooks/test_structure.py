"""Every notebook of the course keeps every structure rule."""

from pathlib import Path

import nbformat
import pytest
from structure_rules import RULES

from tools.notebook_tool.source import Course

COURSE = Course(Path(__file__).resolve().parents[2])
NAMES = [entry.file for entry in COURSE.catalogue.entries]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_the_notebook(name, rule):
    path = COURSE.notebook(name)
    assert path.exists(), f"no notebook was found, run: python -m tools.notebook_tool build {name}"
    problems = list(rule(nbformat.read(path, as_version=4), COURSE.folder))
    assert not problems, f"{name}: {rule.__doc__}\n" + "\n".join(problems)
