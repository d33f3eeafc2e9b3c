import shutil

import pytest

from nvrerank_helpers.lessons import leaks
from nvrerank_helpers.lessons.leaks import Leak, find_leaks, git, leaky_project, would_be_published

KEY = "nvapi-" + 4 * "a-made-up-lesson"
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def project(tmp_path):
    return leaky_project(tmp_path / "project")


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet")
    return tmp_path


@pytest.fixture
def without_git(monkeypatch):
    monkeypatch.setattr(leaks.shutil, "which", lambda _: None)


@needs_git
def test_keys_are_found_in_files_and_in_old_commits(project):
    found = find_leaks(project)
    assert found[0] == Leak("analysis.ipynb, line 13", '"asking with nvapi-…"')
    assert [leak.place.partition(", ")[2] for leak in found[1:]] == ["analysis.ipynb", "settings.py"]


@needs_git
def test_the_lessons_commits_have_the_same_names_everywhere(project):
    assert [leak.place.split(",")[0] for leak in find_leaks(project)[1:]] == ["commit afc2fb1", "commit c6370c7"]


def test_no_key_is_in_what_was_found(project):
    (project / "two.txt").write_text(f"{KEY} and {KEY}", encoding="utf-8")
    assert "lesson" not in repr(find_leaks(project))


@needs_git
def test_files_that_git_ignores_are_passed_over(repository):
    (repository / ".gitignore").write_text(".env\n", encoding="utf-8")
    (repository / ".env").write_text(KEY, encoding="utf-8")
    assert find_leaks(repository) == []


@needs_git
def test_files_that_git_does_not_have_yet_are_read(repository):
    (repository / "new.py").write_text(KEY, encoding="utf-8")
    assert find_leaks(repository) == [Leak("new.py, line 1", "nvapi-…")]


@needs_git
def test_a_file_that_was_deleted_and_not_committed_is_passed_over(project):
    (project / "analysis.ipynb").unlink()
    assert all(leak.place.startswith("commit") for leak in find_leaks(project))


def test_a_folder_without_git_is_read_whole(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.txt").write_text(f"first\nmine: {KEY}", encoding="utf-8")
    assert find_leaks(tmp_path) == [Leak("sub/notes.txt, line 2", "mine: nvapi-…")]


def test_a_placeholder_is_no_key(tmp_path):
    (tmp_path / "README.md").write_text("NVIDIA_API_KEY=nvapi-your-key", encoding="utf-8")
    assert find_leaks(tmp_path) == []


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe" + KEY.encode() + b"\xff")
    assert [leak.place for leak in find_leaks(tmp_path)] == ["picture.png, line 1"]


def test_only_what_stands_near_a_key_is_shown(tmp_path):
    (tmp_path / "long.json").write_text("a" * 500 + " " + KEY + " " + "b" * 500, encoding="utf-8")
    assert len(find_leaks(tmp_path)[0].text) < 100


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotADirectoryError, match="name the one that holds your project"):
        find_leaks(tmp_path / "gone")


@needs_git
def test_a_file_in_a_repository_would_be_published_until_it_is_ignored(repository):
    assert would_be_published(repository / ".env")
    (repository / ".gitignore").write_text(".env\n", encoding="utf-8")
    assert not would_be_published(repository / ".env")


@needs_git
def test_a_file_that_git_has_would_be_published_though_it_is_ignored(repository):
    (repository / ".env").touch()
    git(repository, "add", ".env")
    (repository / ".gitignore").write_text(".env\n", encoding="utf-8")
    assert would_be_published(repository / ".env")


def test_a_file_outside_any_repository_would_not_be_published(tmp_path):
    assert not would_be_published(tmp_path / ".env")


def test_where_git_cannot_be_asked_a_file_in_a_repository_counts_as_published(tmp_path, without_git):
    (tmp_path / ".git").mkdir()
    assert would_be_published(tmp_path / ".env")


def test_the_lessons_project_needs_no_git(tmp_path, without_git):
    project = leaky_project(tmp_path / "project")
    assert [leak.place for leak in find_leaks(project)] == ["analysis.ipynb, line 13"]


@needs_git
def test_variables_for_git_of_the_caller_do_not_lead_to_another_repository(repository, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(repository / "elsewhere"))
    assert git(repository, "rev-parse", "--git-dir").strip() == ".git"
