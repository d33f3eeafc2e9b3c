"""What must not be in an error: control characters, and the key in any spelling."""

import base64
import html
import pickle
import re
import traceback
from pathlib import Path
from urllib.parse import unquote


def texts_of(error):
    """Every text that an error shows; the line break before our own advice is not among them."""
    shown = [str(error).replace("\n  What to do: ", " What to do: ", 1), error.summary, error.hint, *error.args]
    shown += [error.detail, error.request_id, error.model, error.url, *map(str, error.node_ids)]
    return [text for text in shown if text]


def control_characters(error):
    return sorted({letter for text in texts_of(error) for letter in text if not letter.isprintable()})


def places_of(error, key):
    """Where an error shows a key, or 12 letters of it, in one of the spellings that a service may echo."""
    forms = {"repr": repr(error), "pickle": pickle.dumps(error).decode("latin-1")}
    forms |= {f"text {place}": text for place, text in enumerate(texts_of(error))}
    return [name for name, text in forms.items() if is_spelled(text, key)]


def traceback_of(error):
    """The traceback below the test, as tools show it that print the variables of each frame."""
    place = error.__traceback__
    while place and Path(place.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        place = place.tb_next
    shown = traceback.TracebackException(type(error), error, place, capture_locals=True)
    return "".join(line[:20_000] for line in shown.format())


def is_spelled(text, key):
    parts = {key[start : start + 12].lower() for start in range(max(1, len(key) - 11))}
    coded = {base64.b64encode(bytes(before) + key.encode())[4:-4].decode().lower() for before in range(3)}
    coded |= {part.replace("+", "-").replace("/", "_") for part in coded} | {key.encode().hex()}
    plain = [text, unquote(text), unquote(unquote(text)), html.unescape(text), unescaped(text)]
    return any(part in re.sub(r"\s", "", form.lower()) for form in plain for part in parts | coded)


def unescaped(text):
    r"""Undo \\u002f, \\x2f and \\/ ."""
    coded = re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text)
    return coded.replace("\\", "")
