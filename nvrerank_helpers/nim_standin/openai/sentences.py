"""Splits a text into passages, and each passage into sentences that can be quoted: pure functions.

Made for prose and for docstrings, with their signatures, lists and doctests. Every pattern takes time proportional to
the length of the text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise, takewhile

MIN_WORDS = 4
"""Fewest words of a quote; headings and labels have fewer."""

MAX_CHARACTERS = 600
"""Most characters of a quote; a longer run without the end of a sentence is a table or a listing."""

NAMES = ("name", "title")
"""Metadata that names a passage."""

PLACES = ("file_name", "file_path", "source", "url", "id")
"""Metadata that says where a passage is from; its title line says more."""

ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "vs.", "cf.", "resp.", "approx.", "fig.", "mr.", "mrs.", "ms.", "dr.", "no.")

BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
METADATA = re.compile(r"([A-Za-z_]\w*): (.{0,200})")
TITLE = re.compile(r"([A-Za-z_][\w.-]{0,200})(?:\(.*\))?")
UNDERLINE = re.compile(r"\s*([^\w\s])\1{2,}\s*")
ITEM = re.compile(r"\s*(?:(?:[*•-]|\d+[.)])\s+|(?=--?[A-Za-z]))")
SIGNATURE = re.compile(r"\s*(?:class |async )?[\w.]+\s?\(.*\)(?: *-+> .*)?")
SENTENCE_END = re.compile(r"(?<!\.\.)[.!?][\"”')\]*_`]*\s+(?=\S)")
WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Sentence:
    """A quotation, and the name of its passage; prose loses its line breaks, code keeps them."""

    text: str
    source: str


@dataclass
class _Passage:
    metadata: dict[str, str] = field(default_factory=dict)
    title: str = ""
    paragraphs: list[str] = field(default_factory=list)

    def name(self, number: int) -> str:
        names = [self.metadata.get(key) for key in NAMES]
        places = [self.metadata.get(key) for key in PLACES]
        return next(filter(None, [*names, self.title, *places]), None) or f"passage {number}"


def split_sentences(text: str) -> list[Sentence]:
    r"""Find what can be quoted in passages that are joined by blank lines, as LlamaIndex joins nodes.

    A passage begins with metadata lines (`key: value`), or with a title line: a name such as
    `heapq.nlargest(n, iterable)` with text directly below. If no passage of the text begins like this, every paragraph
    is a passage, together with the indented ones after it.

    The result has sentences of prose, and code together with the sentence that introduces it, in the order of the
    text. The source is the passage's `name` or `title`, else its title line, else its file or address, else its number.

    Example:
        >>> [sentence] = split_sentences("name: math.sqrt\n\nReturn the square\nroot of x.")
        >>> sentence
        Sentence(text='Return the square root of x.', source='math.sqrt')
    """
    return [
        Sentence(unit, passage.name(number))
        for number, passage in enumerate(_split_passages(text), 1)
        for unit in _split_units(passage.paragraphs)
    ]


def _split_passages(text: str) -> list[_Passage]:
    found: list[_Passage] = []
    for paragraph in filter(str.strip, BLANK_LINES.split(text.strip("\n"))):
        metadata, rest = _take_metadata(paragraph)
        title, rest = _take_title(rest)
        awaits_title = bool(found) and not found[-1].title and not found[-1].paragraphs
        if metadata or not found or (title and not awaits_title):
            found.append(_Passage(metadata))
        found[-1].title = found[-1].title or title
        if rest.strip():
            found[-1].paragraphs.append(rest)
    if any(passage.metadata or passage.title for passage in found):
        return found
    return _split_paragraphs(paragraph for passage in found for paragraph in passage.paragraphs)


def _split_paragraphs(paragraphs: Iterable[str]) -> list[_Passage]:
    found: list[_Passage] = []
    for paragraph in paragraphs:
        if found and paragraph.startswith((" ", "\t")):
            found[-1].paragraphs.append(paragraph)
        else:
            found.append(_Passage(paragraphs=[paragraph]))
    return found


def _take_metadata(paragraph: str) -> tuple[dict[str, str], str]:
    """Separate the metadata lines from the rest; elsewhere a line of that form, such as `Note: …`, is text."""
    lines = paragraph.split("\n")
    matches = [match for match in takewhile(bool, map(METADATA.fullmatch, lines)) if match]
    metadata = {match[1].lower(): match[2].strip() for match in matches}
    if len(matches) == len(lines) > 1 or metadata.keys() & {*NAMES, *PLACES}:
        return metadata, "\n".join(lines[len(matches) :])
    return {}, paragraph


def _take_title(paragraph: str) -> tuple[str, str]:
    """Separate the title line; terms with their definition, headings and lists of signatures have none."""
    first, _, rest = paragraph.partition("\n")
    second = rest.partition("\n")[0]
    match, following = TITLE.fullmatch(first), TITLE.fullmatch(second)
    if not match or not second.strip() or UNDERLINE.fullmatch(second):
        return "", paragraph
    is_term = "." not in match[1] and second.startswith((" ", "\t"))
    if is_term or (following and match[1].split(".")[0] == following[1].split(".")[0]):
        return "", paragraph
    return match[1], rest


def _split_units(paragraphs: list[str]) -> Iterator[str]:
    """Split the paragraphs of one passage; a sentence that ends in a colon stays with the code that it introduces."""
    lead: list[str] = []
    indent = 0
    for paragraph in paragraphs:
        for is_code, part in _split_parts(paragraph, indent if lead else None):
            if is_code:
                if lead:
                    lead.append(part)
                continue
            yield from _join_with_code(lead)
            *units, last = _split_prose(part)
            lead, indent = [last] if last.endswith(":") else [], _measure_indent(part)
            yield from filter(_is_readable, units if lead else [*units, last])
    yield from _join_with_code(lead)


def _join_with_code(lead: Sequence[str]) -> list[str]:
    """Join a sentence with its code; without any code it is dropped."""
    unit = "\n".join(lead)
    return [unit] if len(lead) > 1 and _is_readable(unit) else []


def _split_parts(paragraph: str, indent: int | None) -> Iterator[tuple[bool, str]]:
    """Split a paragraph into prose, items of a list, and code (marked True).

    After a sentence that introduces code and has `indent`, a paragraph that is indented further is code.
    """
    lines = paragraph.split("\n")
    if indent is None:
        lines = list(dropwhile(SIGNATURE.fullmatch, lines))
    elif _measure_indent(paragraph) > indent and not any(map(ITEM.match, lines)):
        yield True, paragraph
        return
    prose = list(takewhile(lambda line: not line.lstrip().startswith(">>>"), lines))
    starts = {0, len(prose), *(number for number, line in enumerate(prose) if ITEM.match(line))}
    for start, end in pairwise(sorted(starts)):
        yield False, "\n".join(prose[start:end])
    if code := lines[len(prose) :]:
        yield True, "\n".join(code)


def _measure_indent(paragraph: str) -> int:
    return min(len(line) - len(line.lstrip()) for line in paragraph.split("\n"))


def _split_prose(prose: str) -> list[str]:
    text = " ".join(ITEM.sub("", prose, count=1).split()) if ITEM.match(prose) else " ".join(prose.split())
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    ends = [end for end in ends if not text[max(0, end - 10) : end].rstrip().lower().endswith(ABBREVIATIONS)]
    return [text[start:end].rstrip() for start, end in pairwise([0, *ends, len(text)])]


def _is_readable(unit: str) -> bool:
    if len(unit) > MAX_CHARACTERS:
        return False
    words = WORD.findall(unit)
    has_mostly_letters = 2 * sum(map(len, words)) > len("".join(unit.split()))
    return len(words) >= MIN_WORDS and has_mostly_letters and "::=" not in unit
