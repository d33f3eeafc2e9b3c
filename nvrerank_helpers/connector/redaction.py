"""Text of other people's making, fit for an exception, a terminal and a log: no control characters, no API key."""

import base64
import re
from collections.abc import Iterator
from functools import lru_cache

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_NVIDIA_KEY = re.compile(r"nvapi-[\w-]+", re.IGNORECASE)
_MARK = "nvapi-…"
_SHORTEST = 5  # a shorter "key" is a placeholder, and would be cut out of ordinary words


def printable(text: str, longest: int = 500) -> str:
    r"""Put a text on one line, without escape sequences, control characters and direction marks; … marks a cut.

    Example:
        >>> printable("stop\x1b[2J\nnow"), printable("too long", 5)
        ('stop now', 'too l…')
    """
    text = _ESCAPES.sub("", text[: longest * 4])
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def redact(text: str, key: str | None = None) -> str:
    """Replace everything that looks like an NVIDIA API key, and one key in any spelling.

    It is found in another case, with percent, JSON or HTML escapes, in base64, and where a text was cut within it.

    Example:
        >>> redact("Authorization: Bearer nvapi-abc123"), redact("sent my%2Dkey", "my-key")
        ('Authorization: Bearer nvapi-…', 'sent ...')
    """
    if key and len(key) >= _SHORTEST:
        text = _spellings(key).sub(_MARK if _NVIDIA_KEY.fullmatch(key) else "...", text)
    return _NVIDIA_KEY.sub(_MARK, text)


@lru_cache(maxsize=8)
def _spellings(key: str) -> re.Pattern[str]:
    whole, cut = [], []
    for letters in ([_escape(letter) for letter in key], *_encode(key.encode())):
        whole.append("".join(letters))
        cut.append("".join(letters[:3]) + "(?:".join(["", *letters[3:]]) + ")?" * len(letters[3:]) + "(?=…)")
    return re.compile("|".join(whole + cut), re.IGNORECASE)


def _escape(letter: str) -> str:
    code, plain = ord(letter), re.escape(letter)
    return rf"(?:{plain}|%{code:02x}|\\+u{code:04x}|\\+{plain}|&\#(?:{code}|x0*{code:x});)"


def _encode(key: bytes) -> Iterator[list[str]]:
    """Yield base64 of the key for each place where it may begin, without the letters that its neighbors share."""
    for before in range(3):
        start, end = (before * 8 + 5) // 6, (before + len(key)) * 8 // 6
        coded = base64.b64encode(bytes(before) + key).decode()[start:end]
        yield [{"/": "[/_]", "+": "[+-]"}.get(letter, letter) for letter in coded]
