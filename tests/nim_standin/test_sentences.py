"""Texts split into passages with their names, and into sentences, every one word for word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.nim_standin.openai.sentences import MAX_CHARACTERS, split_sentences

PIECES = (
    *("The sort is stable here. ", "It is fast, e.g. for lists. ", "For example:\n", "For example:", '"quoted." '),
    *("\n\n", "\n", "    indented words of code here\n", ">>> sorted([2, 1])\n", "f(x) -> y\n", "math.sqrt(x)\n"),
    *("name: heapq\n", "source: api\n", "* an item of a list\n", "1. first of the items\n", "--option of it\n"),
)


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text)]


@given(st.lists(st.sampled_from(PIECES) | st.text(), max_size=30).map("".join))
def test_every_sentence_is_word_for_word_in_the_text(text: str) -> None:
    words = " ".join(text.split())
    for sentence in texts(text):
        assert " ".join(sentence.split()) in words
        assert len(sentence) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("name: heapq.nlargest\nsource: api\n\nReturn the largest of the elements.", ["heapq.nlargest"]),
        ("source: api\nReturn the largest of the elements.", ["api"]),
        ("module: heapq\nsource: api\n\nheapq.nlargest(n)\nReturn the largest elements.", ["heapq.nlargest"]),
        ("heapq.nlargest(n, iterable)\nReturn the largest of the elements.", ["heapq.nlargest"]),
        ("sorted\nReturn a new sorted list.", ["sorted"]),
        ("Return the largest of the elements.", ["passage 1"]),
        # Passages with blank lines inside keep their names, and those without names are numbered.
        (
            "a.b()\nThe first one is here.\n\nThe second is here.\n\nc.d()\nThe third one is here.",
            ["a.b", "a.b", "c.d"],
        ),
        ("The first one is here.\n\nThe second one is here.", ["passage 1", "passage 2"]),
        # A term with its definition is not a title.
        ("f.groupby\nMake groups out of it.\n\nkey\n  A function that gives the group.", ["f.groupby", "f.groupby"]),
    ],
)
def test_a_passage_is_named_by_its_metadata_or_its_title(text: str, sources: list[str]) -> None:
    assert [sentence.source for sentence in split_sentences(text)] == sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Note: the order is not kept.", ["Note: the order is not kept."], id="no metadata"),
        pytest.param("Return the square\n    root of x.", ["Return the square root of x."], id="line breaks of prose"),
        pytest.param(
            "Use a sequence, e.g. a list or ... a tuple. It may be empty.",
            ["Use a sequence, e.g. a list or ... a tuple.", "It may be empty."],
            id="abbreviations and ellipses",
        ),
        pytest.param(
            "* the first of the items\n* the second of the items",
            ["the first of the items", "the second of the items"],
            id="items of a list",
        ),
        pytest.param(
            "This is how to sort them:\n\n    >>> sorted([2, 1])\n    [1, 2]\n\nThe list itself does not change.",
            ["This is how to sort them:\n    >>> sorted([2, 1])\n    [1, 2]", "The list itself does not change."],
            id="code after its introduction",
        ),
        pytest.param(
            "Example of how to use it::\n\n  x = first(y)\n\n  z = second(x)",
            ["Example of how to use it::\n  x = first(y)\n  z = second(x)"],
            id="code with a blank line",
        ),
        pytest.param("sorted(iterable, key, reverse) -> new list", [], id="signature"),
        pytest.param("See also", [], id="heading"),
        pytest.param("expr ::= term | expr '+' term of it", [], id="grammar"),
        pytest.param("-=-= " * 9, [], id="rule"),
        # 10 MB, in linear time: joined piece by piece, they would take minutes.
        pytest.param(
            "This is how to use it:\n\n" + "\n\n".join(["    " + "x" * 100] * 100_000), [], id="a long run of code"
        ),
    ],
)
def test_a_text_is_split_into_what_can_be_quoted(text: str, expected: list[str]) -> None:
    assert texts(text) == expected
