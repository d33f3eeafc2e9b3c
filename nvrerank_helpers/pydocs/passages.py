"""The corpus: the documentation inside the reader's own Python, cut into passages."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from llama_index.core.schema import TextNode

MAX_CHARACTERS = 1000  # of one passage, including its title
SHORTEST_LIMIT = 300  # of `max_characters`: titles with many parameters are long
BEGINNING = 48  # characters that identify a part of a long text

Source = Literal["library", "reference"]


def load_passages(max_characters: int = MAX_CHARACTERS, source: Source | None = None) -> list[TextNode]:
    r"""Load the documentation that ships inside this Python as LlamaIndex nodes.

    These are the docstrings of the standard library (source `library`) and the chapters of the language reference
    (source `reference`), as `help()` shows them. A text longer than `max_characters` is split at paragraphs.

    Args:
        max_characters: The most characters in a passage, including its title. The judgments are for passages of 1,000
            characters; `evaluation.measure_coverage` carries them over to other lengths.
        source: `library` or `reference`; None loads both.

    Returns:
        About 8,000 nodes. The id is the qualified name, followed by `#2`, `#3`, … from the second part of a long text
        on. The metadata (`module`, `kind`, `source`) isn't embedded and isn't sent to a model.

    Raises:
        ValueError: `max_characters` is too small for a title.
        RuntimeError: This Python lacks part of its standard library.

    Example:
        >>> nodes = load_passages()
        >>> next(node.text for node in nodes if node.id_ == "math.sqrt")
        'math.sqrt(x)\nReturn the square root of x.'
    """
    if max_characters < SHORTEST_LIMIT:
        raise ValueError(f"max_characters must be at least {SHORTEST_LIMIT}, not {max_characters}.")
    nodes: dict[str, TextNode] = {}
    for entry in _collect_entries():
        if source not in (None, entry["source"]):
            continue
        for number, part in enumerate(split_at_paragraphs(entry["text"], max_characters - len(entry["title"]) - 1), 1):
            id_ = entry["name"] if number == 1 else f"{entry['name']}#{number}"
            nodes.setdefault(id_, _make_node(id_, f"{entry['title']}\n{part}", entry))
    return list(nodes.values())


def strip_title(text: str) -> str:
    r"""Return a passage without its title, on one line. Its first words identify a part that has another number.

    Example:
        >>> strip_title("reference.with\n5. If a target was included\n   in the statement")
        '5. If a target was included in the statement'
    """
    _, _, rest = text.partition("\n")
    return " ".join(rest.split())


def split_at_paragraphs(text: str, limit: int) -> list[str]:
    r"""Split a text into parts of at most `limit` characters, at blank lines if possible.

    A longer paragraph is split between lines, and a longer line after `limit` characters. Joined by white space, the
    parts are the text.

    Example:
        >>> split_at_paragraphs("one\n\ntwo\n\nthree", 9)
        ['one\n\ntwo', 'three']
    """
    for separator in ("\n\n", "\n"):
        pieces = text.split(separator)
        if len(pieces) > 1 and len(text) > limit:
            short = [part for piece in pieces for part in split_at_paragraphs(piece, limit)]
            return list(_pack(short, separator, limit))
    parts = (text[start : start + limit] for start in range(0, len(text), limit))
    return [part.strip("\n") for part in parts if part.strip()]


def _pack(pieces: list[str], separator: str, limit: int) -> Iterator[str]:
    packed = ""
    for piece in pieces:
        joined = f"{packed}{separator}{piece}" if packed else piece
        if len(joined) > limit:
            yield packed
            packed = piece
        else:
            packed = joined
    if packed:
        yield packed


def _make_node(id_: str, text: str, entry: dict[str, str]) -> TextNode:
    metadata = {key: entry[key] for key in ("module", "kind", "source")}
    return TextNode(
        id_=id_,
        text=text,
        metadata=metadata,
        excluded_embed_metadata_keys=list(metadata),
        excluded_llm_metadata_keys=list(metadata),
    )


@cache
def _collect_entries() -> list[dict[str, str]]:
    """Run the collector in another process, because importing the whole standard library would change this one."""
    script = Path(__file__).with_name("collect.py")
    ended = subprocess.run(  # noqa: S603 - our own script under our own interpreter
        [sys.executable, "-I", "-S", str(script)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(
            f"{sys.executable} could not list its own documentation: {ended.stderr.strip()[-300:]}. Use a Python with "
            "its whole standard library (python.org, conda and uv have it; some slim images cut it out)."
        )
    return [json.loads(line) for line in ended.stdout.splitlines()]
