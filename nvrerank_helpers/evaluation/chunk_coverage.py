"""Judgments carried over to other chunks: what counts is how much of the judged text a reader would get to see."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from llama_index.core.schema import BaseNode

from nvrerank_helpers.evaluation.measures import ANSWER, Run
from nvrerank_helpers.pydocs import Question, body

PIECE = 100  # characters: about a sentence and a half


@dataclass(frozen=True)
class Place:
    """Where a part stands in its text, in characters without white space, which splitting may change.

    Attributes:
        text: Name of the text.
        start: Characters before the part.
        end: Characters up to its end.
    """

    text: str
    start: int
    end: int


def places(nodes: Iterable[BaseNode]) -> dict[str, Place]:
    r"""Say where each part stands in its text.

    Args:
        nodes: All parts of each text, in order, as `pydocs.load_passages` gives them: id `name`, `name#2`, …

    Returns:
        Node id to its place; the title line counts as no part of the text.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> places([TextNode(id_="poem", text="poem\ntwo roads"), TextNode(id_="poem#2", text="poem\ndiverged")])
        {'poem': Place(text='poem', start=0, end=8), 'poem#2': Place(text='poem', start=8, end=16)}
    """
    found, ends = {}, Counter[str]()
    for node in nodes:
        name = node.node_id.partition("#")[0]
        start = ends[name]
        ends[name] += len("".join(body(node.get_content()).split()))
        found[node.node_id] = Place(name, start, ends[name])
    return found


def seen_text(
    run: Run,
    questions: Sequence[Question],
    *,
    chunks: Iterable[BaseNode],
    passages: Iterable[BaseNode],
    budget: int = 5000,
) -> pd.DataFrame:
    """Measure how much of the judged text stands in the first characters of each ranking.

    Chunks of all sizes get the same room, so their rankings can be compared. A judged passage counts for what is seen
    of it; parts that overlap count once.

    Args:
        run: The ranked chunks of every question.
        questions: The judgments, of passages.
        chunks: The chunks that were ranked: all parts of their texts, in order.
        passages: The passages that were judged: all parts of the same texts, in order.
        budget: Characters that are read of each ranking, white space and titles not counted; at least 1.

    Returns:
        One row a question: `judged text` (0 to 1: characters seen, each times its grade, divided by the most that the
        room could hold), `half an answer` and `a piece` (1 where half of a passage of grade 3 is seen, or 100
        characters of it, else 0).

    Raises:
        KeyError: A ranked chunk is not among the chunks, or a judged passage not among the passages.
        ValueError: `budget` is below 1.

    Example:
        >>> seen_text(small, questions, chunks=chunks, passages=nodes).mean()  # doctest: +SKIP
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1, not {budget}.")
    of_chunks, of_passages = places(chunks), places(passages)
    rows = {}
    for question in questions:
        seen = _first([of_chunks[id_] for id_ in run.ranked[question.id]], budget)
        judged = {of_passages[id_]: grade for id_, grade in question.relevant.items()}
        shown = {place: _overlap(place, seen) for place in judged}
        answers = [place for place, grade in judged.items() if grade == ANSWER]
        rows[question.id] = {
            "judged text": sum(shown[place] * grade for place, grade in judged.items()) / _most(judged, budget),
            "half an answer": float(any(2 * shown[place] >= place.end - place.start for place in answers)),
            "a piece": float(any(shown[place] >= min(PIECE, place.end - place.start) for place in answers)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _first(ranked: Sequence[Place], budget: int) -> list[Place]:
    """Return what is seen of a ranking, the last part cut to the room that is left."""
    seen = []
    for place in ranked:
        end = min(place.end, place.start + budget)
        seen.append(Place(place.text, place.start, end))
        budget -= end - place.start
    return seen


def _overlap(wanted: Place, seen: Iterable[Place]) -> int:
    characters: set[int] = set()
    for place in seen:
        if place.text == wanted.text:
            characters.update(range(max(place.start, wanted.start), min(place.end, wanted.end)))
    return len(characters)


def _most(judged: dict[Place, int], budget: int) -> float:
    """Return the gain of the best that fits: the highest grades first."""
    gain = 0
    for place, grade in sorted(judged.items(), key=lambda item: -item[1]):
        taken = min(budget, place.end - place.start)
        gain += grade * taken
        budget -= taken
    return gain
