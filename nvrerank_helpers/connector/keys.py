"""Find an API key, and decide where it may go."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from .endpoints import Endpoint

KEY_VARIABLE = "NVIDIA_API_KEY"
# What documentation writes in place of a key: <nvapi-…>, $NVIDIA_API_KEY, ${KEY}, {{ key }}, nvapi-xxxx, nvapi-...
_PLACEHOLDER = re.compile(
    r"<.*>|\[.*\]|\$\{?\w+\}?|%\w+%|\{\{.*\}\}|nvapi-(?:[x*.…]{3,}|…|your.*)?|your[-_ ].*key.*|changeme|x{3,}|sk-\.+",
    re.IGNORECASE,
)

_LINE = re.compile(r"\w+=nvapi-")  # of an .env file

_given: dict[str, SecretStr] = {}  # by origin: keys that this process was given for an address, as by `connect`


@dataclass(frozen=True)
class Key:
    """An API key, and whether it was found in the environment."""

    secret: SecretStr
    inherited: bool


def find_key(given: str | SecretStr | None = None, environ: Mapping[str, str] = os.environ) -> Key | None:
    """Return the key that was given, else the one in `NVIDIA_API_KEY`, without blanks or quotes around it, else None.

    Raises:
        ValueError: The key contains characters that no header may carry, or is a placeholder.

    Example:
        >>> find_key("nvapi-example")
        Key(secret=SecretStr('**********'), inherited=False)
    """
    raw = given.get_secret_value() if isinstance(given, SecretStr) else given
    inherited = not (raw or "").strip()
    text = _unquoted((environ.get(KEY_VARIABLE) or "") if inherited else str(raw))
    if not text:
        return None
    name = KEY_VARIABLE if inherited else "The API key"
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError(f"{name} is a placeholder: put your own key in its place (made at build.nvidia.com).")
    if not text.isascii() or not text.isprintable() or " " in text or _LINE.match(text):
        raise ValueError(f"{name} contains blanks or characters that no key has: copy it again, alone.")
    return Key(SecretStr(text), inherited)


def _unquoted(text: str) -> str:
    """Return a text without blanks and quotes around it: `docker --env-file` keeps the quotes of an .env file."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def key_for(target: Endpoint, given: str | SecretStr | None) -> SecretStr | None:
    """Return the key to send, or None: one from the environment goes to the API catalog, or to what plays it, only.

    Raises:
        ValueError: The API catalog is asked without a key.
    """
    key = find_key(given or _given.get(target.origin), os.environ if target.hosted or target.in_catalog else {})
    if target.hosted and key is None:
        raise ValueError(
            "An API key is required for NVIDIA's API catalog: set NVIDIA_API_KEY (made at build.nvidia.com), or give "
            "base_url of your own NIM. In the course, nvrerank_helpers.connect() starts a local stand-in."
        )
    return key.secret if key else None


def remember_key(target: Endpoint, key: SecretStr) -> None:
    """Use a key for every later request of this process to the same scheme, host and port."""
    _given[target.origin] = key
