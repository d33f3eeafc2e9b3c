"""Runs and judgments to measures. The measures themselves come from `ir_measures`."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from textwrap import shorten

import ir_measures
import pandas as pd
from ir_measures import RR, R, Success, nDCG
from llama_index.core.schema import BaseNode, NodeWithScore
from tqdm.auto import tqdm

from nvrerank_helpers.pydocs import Question, strip_title

MEASURES = {"nDCG@10": nDCG @ 10, "MRR@10": RR @ 10, "hit@1": Success @ 1, "recall@50": R @ 50}
ANSWER = 3  # the grade of a passage that answers the question on its own
UNDERLINE = re.compile(r"([*=~-])\1{3,} ")  # of headings, in the language reference
MILLISECONDS = "milliseconds per question"

Search = Callable[[str], Sequence[NodeWithScore]]


@dataclass(frozen=True)
class Run:
    """What one system found for every question.

    Attributes:
        system: Its name.
        ranked: Question id to passage ids, best first.
        seconds: Wall time of each question.
    """

    system: str
    ranked: dict[str, list[str]]
    seconds: list[float]


def fit_judgments(questions: Iterable[Question], nodes: Iterable[BaseNode]) -> tuple[list[Question], int]:
    """Fit the judgments to the passages that this version of Python has.

    A judged part of a long text may have another number here; it is found by its first words.

    Returns:
        The questions with the judgments whose passage exists, and the number of judgments that were dropped. A question
        without any judgment left is dropped too, as are those that nothing in the corpus answers.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> nodes = [TextNode(id_="a", text="two roads")]
        >>> fit_judgments([Question("q1", "which way?", "test", {"a": 3, "gone": 2})], nodes)[1]
        1
    """
    texts: dict[str, dict[str, str]] = defaultdict(dict)  # name of a text to its parts
    for node in nodes:
        texts[node.node_id.partition("#")[0]][node.node_id] = strip_title(node.get_content())
    kept, lost = [], 0
    for question in questions:
        relevant: dict[str, int] = {}
        for id_, grade in question.relevant.items():
            here = _locate(id_, question.begins.get(id_, ""), texts[id_.partition("#")[0]])
            if here:
                relevant[here] = max(grade, relevant.get(here, 0))
            else:
                lost += 1
        if relevant:
            kept.append(replace(question, relevant=relevant))
    return kept, lost


def keep_answered(questions: Iterable[Question], nodes: Iterable[BaseNode]) -> list[Question]:
    """Keep the questions that these passages answer (grade 3), with the judgments of these passages.

    Example:
        >>> keep_answered([Question("q1", "which way?", "test", {"gone": 3})], [])
        []
    """
    return [question for question in fit_judgments(questions, nodes)[0] if ANSWER in question.relevant.values()]


def _locate(id_: str, begins: str, parts: dict[str, str]) -> str | None:
    """Find a judged passage among the parts of its text, by its id or by its first words."""
    if not begins:
        return id_ if id_ in parts else None
    under_its_id_first = sorted(parts, key=lambda part: part != id_)
    return next((part for part in under_its_id_first if begins in parts[part]), None)


def run_search(system: str, search: Search, questions: Sequence[Question]) -> Run:
    """Ask a system all questions, sequentially, and time each one.

    Args:
        system: Its name.
        search: Takes the text of a question and returns nodes, best first.
        questions: What to ask.
    """
    result = Run(system, {}, [])
    for question in tqdm(questions, desc=system, unit="question", leave=False):
        started = time.perf_counter()
        found = search(question.text)
        result.seconds.append(time.perf_counter() - started)
        result.ranked[question.id] = [node.node_id for node in found]
    return result


def measure(runs: Iterable[Run], questions: Sequence[Question]) -> pd.DataFrame:
    """Compute the mean of each measure for each run.

    nDCG@10 takes the grade itself as gain, as trec_eval does; the other measures count every judged passage as
    relevant. A question for which a system found nothing counts as 0. A question without a relevant passage is left
    out, because every ranking is equally good for it.

    Returns:
        A row for each run; the columns are `nDCG@10`, `MRR@10`, `hit@1`, `recall@50` (each 0 to 1) and the median of
        the milliseconds per question.
    """
    rows = {}
    for one in runs:
        means = ir_measures.calc_aggregate(MEASURES.values(), _collect_judgments(questions), _score_by_rank(one))
        rows[one.system] = {name: means[measure] for name, measure in MEASURES.items()}
        rows[one.system][MILLISECONDS] = median(one.seconds) * 1000
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("system")


def measure_each(run: Run, questions: Sequence[Question], name: str = "nDCG@10") -> "pd.Series[float]":
    """Compute one measure, a column of `measure`, for each question of a run.

    Returns:
        Values from 0 to 1 by question id, in the order of the questions, without those that have no relevant passage.
    """
    judgments = _collect_judgments(questions)
    values = {
        found.query_id: found.value for found in ir_measures.iter_calc([MEASURES[name]], judgments, _score_by_rank(run))
    }
    return pd.Series({id_: values[id_] for id_ in judgments}, name=run.system, dtype=float)


def compare_orders(before: Sequence[NodeWithScore], after: Sequence[NodeWithScore]) -> pd.DataFrame:
    """Show two orders of the same nodes in one table, sorted by the new order.

    Args:
        before: The nodes in their old order, best first.
        after: The same nodes, or some of them, in their new order.

    Returns:
        A row for each node of `after`, with the columns `after` and `before` (ranks from 1), `move` (▲ up, ▼ down, =
        unchanged), `passage` (id), `score before` and `logit`.

    Raises:
        ValueError: `after` contains a node that isn't in `before`.
    """
    old = {found.node_id: (rank, found.score) for rank, found in enumerate(before, 1)}
    new = [found.node_id for found in after if found.node_id not in old]
    if new:
        raise ValueError(f"{new[0]!r} is in the new order but not in the old one: compare two orders of one list.")
    rows = [
        {
            "after": rank,
            "before": old[found.node_id][0],
            "move": _describe_move(old[found.node_id][0], rank),
            "passage": found.node_id,
            "score before": old[found.node_id][1],
            "logit": found.score,
        }
        for rank, found in enumerate(after, 1)
    ]
    columns = ["after", "before", "move", "passage", "score before", "logit"]
    return pd.DataFrame(rows, columns=columns).set_index("after")


def show_grades(found: Sequence[NodeWithScore], question: Question, top: int = 5) -> pd.DataFrame:
    """Show the first nodes of a list with their grades.

    Args:
        found: Nodes, best first.
        question: The question that was asked.
        top: How many nodes to show.

    Returns:
        A row for each node, with the columns `rank`, `grade` (0 if it wasn't judged relevant), `passage` (id), `begins`
        (the first words) and `score`.
    """
    rows = [
        {
            "rank": rank,
            "grade": question.relevant.get(item.node_id, 0),
            "passage": item.node_id,
            "begins": shorten(UNDERLINE.sub("", strip_title(item.node.get_content())), 60, placeholder=" …"),
            "score": item.score,
        }
        for rank, item in enumerate(found[:top], 1)
    ]
    return pd.DataFrame(rows, columns=["rank", "grade", "passage", "begins", "score"]).set_index("rank")


def _describe_move(old: int, new: int) -> str:
    if old == new:
        return "="
    return f"▲ {old - new}" if new < old else f"▼ {new - old}"


def _collect_judgments(questions: Iterable[Question]) -> dict[str, dict[str, int]]:
    return {question.id: question.relevant for question in questions if question.relevant}


def _score_by_rank(one: Run) -> dict[str, dict[str, float]]:
    # trec_eval sorts by score and breaks ties by id: the negative rank as score keeps the order that was found.
    return {question: {id_: -rank for rank, id_ in enumerate(ids)} for question, ids in one.ranked.items()}
