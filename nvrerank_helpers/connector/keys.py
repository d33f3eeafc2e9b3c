"""Find an API key, and keep it out of everything that is shown."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from .models import Endpoint

KEY_VARIABLE = "NVIDIA_API_KEY"
_KEY = re.compile(r"nvapi-[\w-]+")


@dataclass(frozen=True)
class Key:
    """An API key and where it came from.

    Attributes:
        secret: The key; its text is only reached through `get_secret_value()`.
        inherited: Whether it was found in the environment. An inherited key goes to the API catalog only,
            or to the service on this machine that plays it.
    """

    secret: SecretStr
    inherited: bool


def find_key(given: str | SecretStr | None = None, environ: Mapping[str, str] = os.environ) -> Key | None:
    """Return the key that was given, else the one in `NVIDIA_API_KEY`, else None.

    Args:
        given: A key that the caller passed.
        environ: Where to look otherwise.

    Returns:
        The key, or None where there is none; blanks around it are cut off.

    Raises:
        ValueError: The key holds characters that no header may carry, as when a whole line was pasted.

    Example:
        >>> find_key("nvapi-example")
        Key(secret=SecretStr('**********'), inherited=False)
    """
    raw = given.get_secret_value() if isinstance(given, SecretStr) else given
    text = (raw or environ.get(KEY_VARIABLE) or "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("The API key holds blanks or characters that no key has: copy it again, by itself.")
    return Key(SecretStr(text), inherited=not (raw or "").strip())


def key_for(target: Endpoint, given: SecretStr | None) -> SecretStr | None:
    """Return the key to send: one from the environment goes to the API catalog, or to what plays it here, only.

    Args:
        target: Where the request goes.
        given: A key that the caller passed for it.

    Returns:
        The key, or None to send none.

    Raises:
        ValueError: The API catalog is asked and there is no key.

    Example:
        >>> key_for(Endpoint("http://nim/v1/ranking"), SecretStr("nvapi-example"))
        SecretStr('**********')
    """
    key = find_key(given)
    if target.hosted and key is None:
        raise ValueError(
            "NVIDIA's API catalog needs a key: set NVIDIA_API_KEY (make one at build.nvidia.com), give base_url of "
            "your own NIM, or call nvrerank_helpers.connect() to work with the local stand-in."
        )
    return key.secret if key and (target.in_catalog or target.hosted or not key.inherited) else None


def redact(text: str) -> str:
    """Replace everything in a text that looks like an NVIDIA API key.

    Example:
        >>> redact("Authorization: Bearer nvapi-abc123")
        'Authorization: Bearer nvapi-…'
    """
    return _KEY.sub("nvapi-…", text)
