"""Find an API key where people keep them, and check it without showing it."""

import getpass
import os
import sys

import dotenv
import keyring
from keyring.errors import KeyringError
from pydantic import SecretStr

from nvrerank_helpers.connector import (
    CATALOG_ADDRESS,
    DEFAULT_MODEL,
    KEY_VARIABLE,
    HealthReport,
    RankingClient,
    Step,
    check_service,
    find_key,
    resolve_endpoint,
    select_key,
)

SERVICE = "nvrerank"  # the name of the key's entry in the system keyring
PREFIX = "nvapi-"


def use_key() -> str:
    """Find an API key and put it into this process's `NVIDIA_API_KEY`, where everything else looks for it.

    In this order: the environment; a file `.env` in this folder or one above it; the system keyring; and a prompt that
    doesn't show what is typed. The keyring, which may ask to be unlocked, and the prompt are used only if a person
    can answer.

    Returns:
        One sentence that says where the key came from, or that none was found; never the key.

    Raises:
        ValueError: What was found or typed cannot be a key.
    """
    if find_key():
        return "The key comes from the environment."
    os.environ.pop(KEY_VARIABLE, None)  # an empty variable would keep `.env` from setting it
    dotenv.load_dotenv(dotenv.find_dotenv(usecwd=True))
    if find_key():
        return "The key comes from a file .env."
    nowhere = f"No key was found: {KEY_VARIABLE} is not set, and no .env has it"
    if not _can_ask():
        return f"{nowhere}. The system's keyring was left alone, because nobody is there to unlock it or to be asked."
    key, where = _read_keyring(), "the system's keyring"
    if not key:
        key, where = _ask_key(), "you, for this session"
    if not key:
        return f"{nowhere}, nor has the system's keyring, and none was given."
    os.environ[KEY_VARIABLE] = key.get_secret_value()
    return f"The key comes from {where}."


def check_key(key: SecretStr | str | None = None, base_url: str = CATALOG_ADDRESS) -> HealthReport:
    """Check a key against the API catalog without showing it.

    The catalog has no free question that also says whether a key may rank, so the check is one ranking of two short
    passages. It counts as one request of the rate limit and takes a few dozen tokens.

    Args:
        key: The key; None takes the one in `NVIDIA_API_KEY`.
        base_url: The API catalog, or a service that plays it.

    Returns:
        The report. Without a key, or with one of another form, nothing is sent.

    Raises:
        ValueError: The key contains characters that no key has, or the address is malformed.
    """
    given = SecretStr(key) if isinstance(key, str) else key
    found = find_key(given)
    if found is None:
        return HealthReport([Step("key", None, f"{KEY_VARIABLE} is not set, so nothing was sent")])
    if not found.get_secret_value().startswith(PREFIX):
        return HealthReport([Step("key", False, f"it does not begin with {PREFIX}, so it was not sent to NVIDIA")])
    target = resolve_endpoint(base_url, DEFAULT_MODEL)
    with RankingClient(target, DEFAULT_MODEL, api_key=select_key(target, given), max_retries=0) as client:
        return HealthReport([Step("key", True, f"begins with {PREFIX}"), *check_service(client).steps])


def _read_keyring() -> SecretStr | None:
    try:
        text = keyring.get_password(SERVICE, KEY_VARIABLE)
    except KeyringError:  # missing or locked: the person is asked next
        return None
    return SecretStr(text) if text else None


def _ask_key() -> SecretStr | None:
    key = find_key(getpass.getpass("NVIDIA API key (Enter goes on without one): "), {})
    if key and not key.get_secret_value().startswith(PREFIX):
        raise ValueError(f"A key of NVIDIA's API catalog begins with {PREFIX}: copy it again at build.nvidia.com.")
    return key


def _can_ask() -> bool:
    """Return whether a person could answer: a notebook's frontend says so with every cell, otherwise the terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        return bool(kernel.get_parent().get("content", {}).get("allow_stdin"))
    return sys.stdin is not None and sys.stdin.isatty()
