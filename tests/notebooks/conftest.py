"""A course of one tiny notebook in a temporary folder, and the tool that builds it."""

import shutil
from pathlib import Path

import pytest
from tiny_course import write_course

from tools.notebook_tool.__main__ import main
from tools.notebook_tool.source import Course


@pytest.fixture
def unbuilt(tmp_path: Path) -> Course:
    """A course that has a source and no notebook yet."""
    return write_course(tmp_path / "unbuilt")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A course that was built by the command, with a key in the caller's environment: to be read only."""
    course = write_course(tmp_path_factory.mktemp("course") / "built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NVIDIA_API_KEY", "nvapi-not-a-real-key-at-all")
        assert main(["build"], course) == 0
    return course


@pytest.fixture
def course(built: Course, tmp_path: Path) -> Course:
    """A built course that a test may spoil."""
    return Course(Path(shutil.copytree(built.root, tmp_path / "copy")))
