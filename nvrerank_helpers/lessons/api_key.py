"""An API key from the person to the process: asked for unseen, kept where only its owner reads it, checked."""

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from nvrerank_helpers.connector import (
    CATALOG_ADDRESS,
    DEFAULT_MODEL,
    KEY_VARIABLE,
    RankingClient,
    Report,
    Step,
    check,
    endpoint,
    find_key,
    key_for,
    redact,
)
from nvrerank_helpers.lessons.leaks import would_be_published

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "nvrerank"  # under this name the key stands in the system keyring
PREFIX = "nvapi-"
ENV_FILE_INSTEAD = "Keep the key in an .env file that git ignores, or in the environment of the program."
OWNER_ONLY = 0o600  # file mode: nobody else on this machine reads it


class KeychainError(RuntimeError):
    """A key cannot be kept there; the message says why and what to do instead."""


def use_key() -> str:
    """Find an API key and put it into this process's `NVIDIA_API_KEY`, where everything else looks for it.

    In this order: the environment; a file `.env` in this folder or one above it; the system keyring; and a prompt that
    shows nothing of what is typed. The keyring, which may ask to be unlocked, and the prompt are used only where
    somebody can answer.

    Returns:
        One sentence that says where the key came from, or that there is none; never the key.

    Raises:
        ValueError: What was found or typed cannot be a key.

    Example:
        >>> use_key()  # doctest: +SKIP
        'The key comes from the environment.'
    """
    if find_key():
        return "The key comes from the environment."
    os.environ.pop(KEY_VARIABLE, None)  # it is there and empty: as if it were not there
    _load_env_file()
    if find_key():
        return "The key comes from a file .env."
    nowhere = f"There is no key: {KEY_VARIABLE} is not set, and no .env has it"
    if not _somebody_is_there():
        return f"{nowhere}. The system's keyring was left alone, because nobody is there to unlock it or to be asked."
    key, where = _in_keyring(), "the system's keyring"
    if not key:
        key, where = ask_key(), "you, for this session"
    if not key:
        return f"{nowhere}, nor has the system's keyring, and none was given."
    os.environ[KEY_VARIABLE] = key.get_secret_value()
    return f"The key comes from {where}."


def ask_key() -> SecretStr | None:
    """Ask for a key without showing what is typed.

    Returns:
        The key, or None where nobody can be asked (a headless run, a pipe) or nothing was typed.

    Raises:
        ValueError: What was typed cannot be a key of the API catalog; it is not repeated.

    Example:
        >>> key = ask_key()  # doctest: +SKIP
    """
    if not _somebody_is_there():
        return None
    key = find_key(getpass.getpass("NVIDIA API key (Enter goes on without one): "), {})
    if key and not _has_the_form(key.secret):
        raise ValueError(f"A key of NVIDIA's API catalog begins with {PREFIX}: copy it again at build.nvidia.com.")
    return key.secret if key else None


def keep_in_keyring(key: SecretStr | str | None, service: str = SERVICE) -> str:
    """Keep a key in the keyring of the system: Keychain on macOS, the Credential Manager on Windows, and so on.

    Args:
        key: The key; None, as `ask_key` may return it, is refused.
        service: The name under which it is kept.

    Returns:
        The name of the keyring.

    Raises:
        ValueError: There is no key.
        KeychainError: There is no keyring that can be used, nobody is there to unlock it, or it refused.

    Example:
        >>> keep_in_keyring(ask_key())  # doctest: +SKIP
        'macOS Keyring'
    """
    with _keyring() as safe:
        safe.set_password(service, KEY_VARIABLE, _text(key))
        if safe.get_password(service, KEY_VARIABLE) == _text(key):
            return str(safe.name)
    raise KeychainError(f"{safe.name} keeps nothing. {ENV_FILE_INSTEAD}")


def key_from_keyring(service: str = SERVICE) -> SecretStr | None:
    """Return the key that the system keyring has, or None where it has none.

    Args:
        service: The name under which it is kept.

    Raises:
        KeychainError: As for `keep_in_keyring`.

    Example:
        >>> key_from_keyring()  # doctest: +SKIP
        SecretStr('**********')
    """
    with _keyring() as safe:
        text = safe.get_password(service, KEY_VARIABLE)
    return SecretStr(text) if text else None


def forget_in_keyring(service: str = SERVICE) -> bool:
    """Take the key out of the system keyring.

    Args:
        service: The name under which it was kept.

    Returns:
        Whether there was one.

    Raises:
        KeychainError: As for `keep_in_keyring`.

    Example:
        >>> forget_in_keyring()  # doctest: +SKIP
        True
    """
    with _keyring() as safe:
        there = safe.get_password(service, KEY_VARIABLE) is not None
        if there:
            safe.delete_password(service, KEY_VARIABLE)
    return there


def keep_in_env_file(key: SecretStr | str | None, path: str | Path = ".env") -> None:
    """Write a key into an `.env` file that only its owner may read; other lines of the file stay.

    Args:
        key: The key; None, as `ask_key` may return it, is refused.
        path: The file.

    Raises:
        ValueError: There is no key.
        KeychainError: Git would publish that file; nothing was written.

    Example:
        >>> keep_in_env_file(find_key().secret)  # doctest: +SKIP
    """
    import dotenv

    file = Path(path)
    if would_be_published(file):
        raise KeychainError(
            f"Git does not ignore {file.name}, so the next commit could publish the key. Write {file.name} on a line "
            f"of the file .gitignore (if git has the file already, also: git rm --cached {file.name}), then try again."
        )
    file.touch(mode=OWNER_ONLY)
    file.chmod(OWNER_ONLY)  # before the key is in it, and also where the file was there already
    dotenv.set_key(file, KEY_VARIABLE, _text(key))


def key_from_env_file(path: str | Path = ".env") -> SecretStr | None:
    """Return the key that an `.env` file has, or None where it has none.

    Args:
        path: The file.

    Example:
        >>> key_from_env_file()  # doctest: +SKIP
        SecretStr('**********')
    """
    import dotenv

    text = dotenv.dotenv_values(path).get(KEY_VARIABLE)
    return SecretStr(text) if text else None


def check_key(key: SecretStr | str | None = None, base_url: str = CATALOG_ADDRESS) -> Report:
    """Check a key against the API catalog without showing it.

    The catalog has no free question that also tells whether a key may rank, so the check is one ranking of two short
    passages: one request of the minute's, and some tens of tokens.

    Args:
        key: The key; None takes the one in `NVIDIA_API_KEY`.
        base_url: The API catalog, or a service that plays it.

    Returns:
        The report. Without a key, or with one of another form, nothing is sent.

    Raises:
        ValueError: The key holds characters that no key has, or the address is malformed.

    Example:
        >>> print(check_key())  # doctest: +SKIP
        ok    key        begins with nvapi-
    """
    given = SecretStr(_text(key)) if key else None
    found = find_key(given)
    if found is None:
        return Report([Step("key", None, f"{KEY_VARIABLE} is not set, so nothing was sent")])
    if not _has_the_form(found.secret):
        return Report([Step("key", False, f"it does not begin with {PREFIX}, so it was not sent to NVIDIA")])
    target = endpoint(base_url, DEFAULT_MODEL)
    with RankingClient(target, DEFAULT_MODEL, api_key=key_for(target, given), max_retries=0) as client:
        return Report([Step("key", True, f"begins with {PREFIX}"), *check(client).steps])


def _load_env_file() -> None:
    with suppress(ImportError):  # the connector alone, without the course
        import dotenv

        dotenv.load_dotenv(dotenv.find_dotenv(usecwd=True))


def _in_keyring() -> SecretStr | None:
    try:
        return key_from_keyring()
    except KeychainError:  # one place among others: the next one is asked
        return None


@contextmanager
def _keyring() -> "Iterator[KeyringBackend]":
    """Lend the keyring of the system where it can be used without a surprise, and word its errors."""
    try:
        import keyring
        from keyring.errors import KeyringError, NoKeyringError
    except ImportError:
        raise KeychainError(f"The package keyring is not installed. {ENV_FILE_INSTEAD}") from None
    try:
        safe = keyring.get_keyring()
        if safe.priority > 0 and not _somebody_is_there():
            raise KeychainError(f"Nobody is there to unlock the system's keyring. {ENV_FILE_INSTEAD}")
        yield safe
    except NoKeyringError:
        raise KeychainError(
            "This machine has no keyring that can be used, as is usual for servers and containers. " + ENV_FILE_INSTEAD
        ) from None
    except KeyringError as error:
        raise KeychainError(f"The system's keyring refused: {redact(str(error))}. Unlock it and try again.") from None


def _somebody_is_there() -> bool:
    """Tell whether a person could answer: in a notebook its frontend says so with every cell, else the terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        return bool(kernel.get_parent().get("content", {}).get("allow_stdin"))
    return sys.stdin is not None and sys.stdin.isatty()


def _has_the_form(key: SecretStr) -> bool:
    return key.get_secret_value().startswith(PREFIX)


def _text(key: SecretStr | str | None) -> str:
    if not key:
        raise ValueError("There is no key to keep: nothing was given or typed.")
    return key.get_secret_value() if isinstance(key, SecretStr) else key
