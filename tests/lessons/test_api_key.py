import getpass
import os

import IPython
import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked

from nvrerank_helpers.lessons import MockCatalog, api_key, check_key, use_key

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
    monkeypatch.setattr(api_key, "_can_ask", lambda: True)


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
    drawer.set_password("nvrerank", "NVIDIA_API_KEY", KEY)
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


# Asking


@pytest.mark.parametrize("typed", ["sk-something-else", "two words"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(types, typed):
    types(typed)
    with pytest.raises(ValueError, match="copy it again") as refused:
        use_key()
    assert typed not in str(refused.value)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_notebooks_frontend_says_whether_it_can_ask(monkeypatch, allowed):
    class Kernel:
        def get_parent(self):
            return {"content": {"allow_stdin": allowed}}

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY)
    assert use_key().endswith("for this session.") == allowed


@pytest.mark.parametrize("terminal", [True, False])
def test_a_program_asks_in_a_terminal_only(monkeypatch, terminal):
    class Stdin:
        def isatty(self):
            return terminal

    monkeypatch.setattr(api_key.sys, "stdin", Stdin())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: KEY)
    assert use_key().endswith("for this session.") == terminal


def test_a_locked_keyring_is_passed_over(types):
    keyring.set_keyring(Drawer(locked=True))
    types(KEY)
    assert use_key() == "The key comes from you, for this session."


# Checking


@pytest.fixture(scope="module")
def lesson():
    with MockCatalog() as catalog:
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
