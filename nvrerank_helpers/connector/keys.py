"""Find an API key, and decide where it may go."""

import os
import re
from collections.abc import Mapping

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


def find_key(given: str | SecretStr | None = None, environ: Mapping[str, str] = os.environ) -> SecretStr | None:
    """Return the key that was given, else the one in `NVIDIA_API_KEY`, without blanks or quotes around it, else None.

    Raises:
        ValueError: The key contains characters that no header may carry, or is a placeholder.

    Example:
        >>> find_key("nvapi-example")
        SecretStr('**********')
    """
    raw, name = given.get_secret_value() if isinstance(given, SecretStr) else given or "", "The API key"
    if not raw.strip():
        raw, name = environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
    text = _strip_quotes(raw)
    if not text:
        return None
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError(f"{name} is a placeholder: put your own key in its place (made at build.nvidia.com).")
    if not text.isascii() or not text.isprintable() or " " in text or _LINE.match(text):
        raise ValueError(f"{name} contains blanks or characters that no key has: copy it again, alone.")
    return SecretStr(text)


def _strip_quotes(text: str) -> str:
    """Return a text without blanks and quotes around it: `docker --env-file` keeps the quotes of an .env file."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def select_key(target: Endpoint, given: str | SecretStr | None) -> SecretStr | None:
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
    return key


def remember_key(target: Endpoint, key: SecretStr) -> None:
    """Use a key for every later request of this process to the same scheme, host and port."""
    _given[target.origin] = key
