import getpass
import os
import stat
import sys

import IPython
import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError
from pydantic import SecretStr

from nvrerank_helpers.lessons import api_key
from nvrerank_helpers.lessons.api_key import (
    KeychainError,
    ask_key,
    check_key,
    forget_in_keyring,
    keep_in_env_file,
    keep_in_keyring,
    key_from_env_file,
    key_from_keyring,
    use_key,
)
from nvrerank_helpers.lessons.leaks import git
from nvrerank_helpers.lessons.mock_catalog import LessonCatalog

KEY = "nvapi-mine"


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 5
    name = "a drawer"

    def __init__(self, locked=False):
        super().__init__()
        self.kept, self.locked = {}, locked

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked(f"locked, and it knew {KEY}")
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def delete_password(self, service, username):
        if (service, username) not in self.kept:
            raise PasswordDeleteError("nothing there")
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    """No key in the environment, no .env above, no keyring, nobody there."""
    monkeypatch.setenv("NVIDIA_API_KEY", "")
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED", raising=False)  # set by the root conftest, for notebooks
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dotenv.find_dotenv", lambda usecwd: str(tmp_path / ".env"))
    monkeypatch.setattr(api_key.sys, "stdin", None)
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def drawer(somebody):
    keyring.set_keyring(backend := Drawer())
    return backend


@pytest.fixture
def somebody(monkeypatch):
    monkeypatch.setattr(api_key, "_somebody_is_there", lambda: True)


@pytest.fixture
def types(monkeypatch, somebody):
    return lambda text: monkeypatch.setattr(getpass, "getpass", lambda prompt: text)


# Where a key is looked for


def test_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    assert use_key() == "The key comes from the environment."


def test_an_env_file_comes_next(tmp_path, drawer):
    (tmp_path / ".env").write_text(f"NVIDIA_API_KEY={KEY}\n", encoding="utf-8")
    assert (use_key(), os.environ["NVIDIA_API_KEY"]) == ("The key comes from a file .env.", KEY)


def test_then_the_systems_keyring(drawer):
    keep_in_keyring(KEY)
    assert (use_key(), os.environ["NVIDIA_API_KEY"]) == ("The key comes from the system's keyring.", KEY)


def test_then_the_person(types):
    types(KEY)
    assert (use_key(), os.environ["NVIDIA_API_KEY"]) == ("The key comes from you, for this session.", KEY)


def test_a_person_may_go_on_without_a_key(types):
    types("")
    assert use_key().endswith("and none was given.")


def test_without_a_person_neither_the_keyring_nor_the_prompt_is_touched(monkeypatch):
    keyring.set_keyring(Drawer(locked=True))
    monkeypatch.setattr(getpass, "getpass", None)
    assert "nobody is there" in use_key()


def test_the_packages_of_the_course_are_not_needed_to_look(monkeypatch, types):
    monkeypatch.setitem(sys.modules, "dotenv", None)
    monkeypatch.setitem(sys.modules, "keyring", None)
    types(KEY)
    assert use_key() == "The key comes from you, for this session."


# Asking


def test_a_typed_key_is_shown_as_stars(types):
    types(f" {KEY}\n")
    assert repr(ask_key()) == "SecretStr('**********')"


@pytest.mark.parametrize("typed", ["sk-something-else", "two words"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(types, typed):
    types(typed)
    with pytest.raises(ValueError, match="copy it again") as refused:
        ask_key()
    assert typed not in str(refused.value)


def test_nobody_is_asked_in_a_headless_run(monkeypatch):
    monkeypatch.setattr(getpass, "getpass", None)
    assert ask_key() is None


@pytest.mark.parametrize("allowed", [True, False])
def test_a_notebooks_frontend_says_whether_it_can_ask(monkeypatch, allowed):
    class Kernel:
        def get_parent(self):
            return {"content": {"allow_stdin": allowed}}

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY)
    assert (ask_key() is not None) == allowed


@pytest.mark.parametrize("terminal", [True, False])
def test_a_program_asks_in_a_terminal_only(monkeypatch, terminal):
    class Stdin:
        def isatty(self):
            return terminal

    monkeypatch.setattr(api_key.sys, "stdin", Stdin())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY)
    assert (ask_key() is not None) == terminal


# The keyring


def test_a_key_is_kept_and_found_and_forgotten(drawer):
    assert keep_in_keyring(SecretStr(KEY)) == "a drawer"
    assert key_from_keyring().get_secret_value() == KEY
    assert (forget_in_keyring(), forget_in_keyring(), key_from_keyring()) == (True, False, None)


@pytest.mark.parametrize("work", [lambda: keep_in_keyring(KEY), key_from_keyring, forget_in_keyring])
def test_a_machine_without_a_keyring_says_what_else_to_do(work):
    with pytest.raises(KeychainError, match=r"no keyring that can be used.*\.env file that git ignores"):
        work()


def test_a_keyring_is_left_alone_when_nobody_could_unlock_it():
    keyring.set_keyring(Drawer())
    with pytest.raises(KeychainError, match="Nobody is there to unlock"):
        keep_in_keyring(KEY)


def test_a_locked_keyring_is_an_error_without_the_key(somebody):
    keyring.set_keyring(Drawer(locked=True))
    with pytest.raises(KeychainError, match="Unlock it and try again") as refused:
        key_from_keyring()
    assert KEY not in str(refused.value)


def test_a_keyring_that_keeps_nothing_is_noticed():
    keyring.set_keyring(null.Keyring())
    with pytest.raises(KeychainError, match="keeps nothing"):
        keep_in_keyring(KEY)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeychainError, match="package keyring is not installed"):
        keep_in_keyring(KEY)


# The file


def test_a_key_in_a_file_is_found_there(tmp_path):
    keep_in_env_file(KEY, tmp_path / ".env")
    assert key_from_env_file(tmp_path / ".env").get_secret_value() == KEY


def test_a_file_without_a_key_has_none(tmp_path):
    assert key_from_env_file(tmp_path / ".env") is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_only_the_owner_may_read_the_file_also_where_it_was_there_before(tmp_path):
    (tmp_path / ".env").write_text("OTHER=1\n", encoding="utf-8")
    (tmp_path / ".env").chmod(0o644)
    keep_in_env_file(KEY, tmp_path / ".env")
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_other_lines_of_the_file_stay(tmp_path):
    (tmp_path / ".env").write_text("OTHER=1\nNVIDIA_API_KEY=old\n", encoding="utf-8")
    keep_in_env_file(KEY, tmp_path / ".env")
    assert (tmp_path / ".env").read_text(encoding="utf-8") == f"OTHER=1\nNVIDIA_API_KEY='{KEY}'\n"


def test_a_file_that_git_would_publish_is_refused_and_not_written(tmp_path):
    if git(tmp_path, "init", "--quiet") is None:
        pytest.skip("git is not installed")
    with pytest.raises(KeychainError, match=r"Write \.env on a line of the file \.gitignore"):
        keep_in_env_file(KEY, tmp_path / ".env")
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize("keep", [keep_in_env_file, keep_in_keyring])
def test_no_key_is_not_kept(keep, drawer):
    with pytest.raises(ValueError, match="no key to keep"):
        keep(None)


# Checking


@pytest.fixture(scope="module")
def lesson():
    with LessonCatalog() as catalog:
        yield catalog


def test_a_good_key_ranks_two_passages_with_one_request(lesson):
    lesson.control.clear()
    report = check_key(KEY, lesson.url())
    assert (report.passed, len(lesson.control.requests())) == (True, 1)


def test_a_key_of_the_environment_is_checked_at_the_catalog(lesson, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-revoked")
    monkeypatch.setenv("NVRERANK_CATALOG_URL", lesson.url().partition("/v1")[0])
    assert "401" in str(check_key())


def test_a_key_of_the_environment_goes_to_no_other_address(lesson, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    lesson.control.clear()
    check_key(base_url=lesson.url())
    assert "authorization" not in dict(lesson.control.requests()[0].headers)


def test_a_report_never_shows_the_key(lesson):
    assert "forbidden" not in str(check_key("nvapi-forbidden", lesson.url())).lower().replace("authorization", "")


@pytest.mark.parametrize(("key", "passed", "told"), [(None, True, "not set"), ("sk-other", False, "does not begin")])
def test_nothing_is_sent_without_a_key_or_with_one_of_another_form(key, passed, told):
    report = check_key(key, "http://127.0.0.1:9/v1")
    assert (report.passed, told in str(report)) == (passed, True)
