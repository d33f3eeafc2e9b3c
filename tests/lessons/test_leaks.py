import shutil
import subprocess

import pytest

from nvrerank_helpers.lessons import make_leaky_project

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def project(tmp_path):
    return make_leaky_project(tmp_path / "project")


def git(project, *arguments):
    return subprocess.run(["git", "-C", project, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_key_is_in_the_notebook_and_no_longer_in_the_settings(project):
    assert git(project, "grep", "-l", "nvapi-") == "analysis.ipynb\n"


def test_the_commits_have_the_same_names_everywhere(project):
    assert git(project, "log", "--format=%h").split() == ["afc2fb1", "c6370c7"]


def test_variables_for_git_of_the_caller_do_not_lead_to_another_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert (make_leaky_project(tmp_path / "project") / ".git").is_dir()
