"""Judgments carried over to other chunks: how much of the judged text does a reader get to see?"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from llama_index.core.schema import BaseNode

from nvrerank_helpers.evaluation.measures import ANSWER, Run
from nvrerank_helpers.pydocs import Question, strip_title

PIECE = 100  # characters: about a sentence and a half


@dataclass(frozen=True)
class Place:
    """Where a part is in its text, in characters without white space, because splitting may change the white space.

    Attributes:
        text: Name of the text.
        start: Characters before the part.
        end: Characters up to its end.
    """

    text: str
    start: int
    end: int


def locate_chunks(nodes: Iterable[BaseNode]) -> dict[str, Place]:
    r"""Find where each part is in its text; the title line doesn't count.

    Args:
        nodes: All parts of each text, in order, as `pydocs.load_passages` returns them: `name`, `name#2`, …

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> locate_chunks([TextNode(id_="poem", text="poem\ntwo roads"), TextNode(id_="poem#2", text="poem\ndiverged")])
        {'poem': Place(text='poem', start=0, end=8), 'poem#2': Place(text='poem', start=8, end=16)}
    """
    found, ends = {}, Counter[str]()
    for node in nodes:
        name = node.node_id.partition("#")[0]
        start = ends[name]
        ends[name] += len("".join(strip_title(node.get_content()).split()))
        found[node.node_id] = Place(name, start, ends[name])
    return found


def measure_coverage(
    run: Run,
    questions: Sequence[Question],
    *,
    chunks: Iterable[BaseNode],
    passages: Iterable[BaseNode],
    budget: int = 5000,
) -> pd.DataFrame:
    """Measure how much of the judged text is in the first characters of each ranking.

    Chunks of all sizes get the same room, so you can compare their rankings. Each judged passage counts for the part
    that is seen; text that is seen twice counts once.

    Args:
        run: The ranked chunks of every question.
        questions: The judgments, of passages.
        chunks: The chunks that were ranked: all parts of their texts, in order.
        passages: The passages that were judged: all parts of the same texts, in order.
        budget: Characters that are read of each ranking, without white space and titles; at least 1.

    Returns:
        A row for each question: `judged text` (0 to 1: characters seen, each times its grade, divided by the most that
        fits into the budget), `half an answer` and `a piece` (1 if half of a passage of grade 3 is seen, or 100
        characters of it, else 0).

    Raises:
        KeyError: A ranked chunk isn't among the chunks, or a judged passage isn't among the passages.
        ValueError: `budget` is below 1.
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1, not {budget}.")
    of_chunks, of_passages = locate_chunks(chunks), locate_chunks(passages)
    rows = {}
    for question in questions:
        seen = _read_first([of_chunks[id_] for id_ in run.ranked[question.id]], budget)
        judged = {of_passages[id_]: grade for id_, grade in question.relevant.items()}
        shown = {place: _count_overlap(place, seen) for place in judged}
        gain = sum(shown[place] * grade for place, grade in judged.items())
        answers = [place for place, grade in judged.items() if grade == ANSWER]
        rows[question.id] = {
            "judged text": gain / _compute_best_gain(judged, budget),
            "half an answer": float(any(2 * shown[place] >= place.end - place.start for place in answers)),
            "a piece": float(any(shown[place] >= min(PIECE, place.end - place.start) for place in answers)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _read_first(ranked: Sequence[Place], budget: int) -> list[Place]:
    """Return the chunks that fit, the last one cut to the room that is left."""
    seen = []
    for place in ranked:
        end = min(place.end, place.start + budget)
        seen.append(Place(place.text, place.start, end))
        budget -= end - place.start
    return seen


def _count_overlap(wanted: Place, seen: Iterable[Place]) -> int:
    characters: set[int] = set()
    for place in seen:
        if place.text == wanted.text:
            characters.update(range(max(place.start, wanted.start), min(place.end, wanted.end)))
    return len(characters)


def _compute_best_gain(judged: dict[Place, int], budget: int) -> float:
    """Return the highest gain that fits: the highest grades first."""
    gain = 0
    for place, grade in sorted(judged.items(), key=lambda item: -item[1]):
        taken = min(budget, place.end - place.start)
        gain += grade * taken
        budget -= taken
    return gain
