"""Texts taken apart: passages with their names, sentences that a reader can take in, every one word for word."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.nim_standin.openai.sentences import MAX_CHARACTERS, sentences

PIECES = (
    *("The sort is stable here. ", "It is fast, e.g. for lists. ", "For example:\n", "For example:", '"quoted." '),
    *("\n\n", "\n", "    indented words of code here\n", ">>> sorted([2, 1])\n", "f(x) -> y\n", "math.sqrt(x)\n"),
    *("name: heapq\n", "source: api\n", "* an item of a list\n", "1. first of the items\n", "--option of it\n"),
)


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in sentences(text)]


def sources(text: str) -> list[str]:
    return list(dict.fromkeys(sentence.source for sentence in sentences(text)))


@given(st.lists(st.sampled_from(PIECES) | st.text(), max_size=30).map("".join))
def test_every_sentence_stands_word_for_word_in_the_text(text: str) -> None:
    words = " ".join(text.split())
    for sentence in texts(text):
        assert " ".join(sentence.split()) in words
        assert len(sentence) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("name: heapq.nlargest\nsource: api\n\nReturn the largest of the elements.", "heapq.nlargest"),
        ("source: api\nReturn the largest of the elements.", "api"),
        ("module: heapq\nsource: api\n\nheapq.nlargest(n)\nReturn the largest elements.", "heapq.nlargest"),
        ("heapq.nlargest(n, iterable)\nReturn the largest of the elements.", "heapq.nlargest"),
        ("sorted\nReturn a new sorted list.", "sorted"),
        ("Return the largest of the elements.", "passage 1"),
    ],
)
def test_a_passage_is_named_by_its_metadata_or_its_title(text: str, source: str) -> None:
    assert sources(text) == [source]


def test_passages_with_blank_lines_inside_keep_their_names() -> None:
    text = "a.b()\nThe first one is here.\n\nThe second one is here.\n\nc.d()\nThe third one is here."
    assert [(found.source, found.text.split()[1]) for found in sentences(text)] == [
        ("a.b", "first"),
        ("a.b", "second"),
        ("c.d", "third"),
    ]


def test_passages_without_names_are_numbered() -> None:
    assert sources("The first one is here.\n\nThe second one is here.") == ["passage 1", "passage 2"]


def test_a_remark_with_a_colon_is_no_metadata() -> None:
    assert texts("Note: the order is not kept.") == ["Note: the order is not kept."]


def test_a_term_with_its_definition_is_no_title() -> None:
    text = "itertools.groupby\nMake groups out of it.\n\nkey\n  A function that gives the group."
    assert sources(text) == ["itertools.groupby"]


def test_line_breaks_of_prose_are_closed_up() -> None:
    assert texts("Return the square\n    root of x.") == ["Return the square root of x."]


def test_abbreviations_and_ellipses_do_not_end_a_sentence() -> None:
    text = "Use a sequence, e.g. a list or ... a tuple. It may be empty."
    assert texts(text) == ["Use a sequence, e.g. a list or ... a tuple.", "It may be empty."]


def test_items_of_a_list_are_apart_and_without_their_mark() -> None:
    text = "* the first of the items\n* the second of the items"
    assert texts(text) == ["the first of the items", "the second of the items"]


def test_code_goes_with_the_sentence_that_introduces_it() -> None:
    text = "This is how to sort them:\n\n    >>> sorted([2, 1])\n    [1, 2]\n\nThe list itself stays as it was."
    assert texts(text) == [
        "This is how to sort them:\n    >>> sorted([2, 1])\n    [1, 2]",
        "The list itself stays as it was.",
    ]


def test_code_that_goes_on_behind_a_blank_line_stays_whole() -> None:
    text = "Example of how to use it::\n\n  x = first(y)\n\n  z = second(x)"
    assert texts(text) == ["Example of how to use it::\n  x = first(y)\n  z = second(x)"]


@pytest.mark.parametrize(
    "text",
    ["sorted(iterable, key, reverse) -> new list", "See also", "expr ::= term | expr '+' term of it", "-=-= " * 9],
)
def test_signatures_headings_grammar_and_rules_are_not_quoted(text: str) -> None:
    assert texts(text) == []


def test_a_long_run_of_code_takes_a_time_in_proportion() -> None:
    code = "\n\n".join(["    " + "x" * 100] * 20_000)  # 2 MB; joined piece by piece it took 5 s
    began = time.process_time()
    assert texts(f"This is how to use it:\n\n{code}") == []
    assert time.process_time() - began < 1
