"""Makes foreign text fit for an exception, a terminal and a log: no control characters, no API key."""

import base64
import html
import re
from urllib.parse import unquote

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_NVIDIA_KEY = re.compile(r"nvapi-[\w-]+", re.IGNORECASE)
_MARK = "nvapi-…"
_TELLING = 12  # letters of a key in a row
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
    """Replace everything that looks like an NVIDIA API key, and one key as it was sent.

    A text that repeats the key in another spelling (escaped, encoded, divided or cut) is left out as a whole.

    Example:
        >>> redact("Authorization: Bearer nvapi-abc123"), redact("you sent my-own-key", "my-own-key")
        ('Authorization: Bearer nvapi-…', 'you sent ...')
        >>> redact("you sent my%2Down%2Dkey", "my-own-key")
        '(left out, since it repeats the key)'
    """
    if key and len(key) >= _SHORTEST:
        text = re.sub(re.escape(key), _MARK if _NVIDIA_KEY.fullmatch(key) else "...", text, flags=re.IGNORECASE)
        if _repeats(text, key):
            return "(left out, since it repeats the key)"
    return _NVIDIA_KEY.sub(_MARK, text)


def _repeats(text: str, key: str) -> bool:
    """Return whether a text contains a part of the key that is long enough to be of use, in one of its spellings."""
    coded = [base64.b64encode(bytes(before) + key.encode())[4:-4].decode() for before in range(3)]
    wholes = [key, *coded, *(form.replace("+", "-").replace("/", "_") for form in coded), key.encode().hex()]
    parts = {part.lower() for whole in wholes for part in _windows(whole)}
    unescaped = re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text).replace("\\", "")
    for form in (text, unquote(text), unquote(unquote(text)), html.unescape(text), html.unescape(unquote(unescaped))):
        seen = "".join(letter for letter in form if not letter.isspace()).lower()
        if any(part in seen for part in parts):
            return True
    return False


def _windows(whole: str) -> list[str]:
    size = min(len(whole), _TELLING)
    return [whole[start : start + size] for start in range(len(whole) - size + 1)] if size >= _SHORTEST else []
