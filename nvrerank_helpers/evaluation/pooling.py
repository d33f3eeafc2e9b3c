"""Pools: the passages that are read for judging, and what a smaller pool would do to the judgments."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.pydocs import Question

Pool = Mapping[str, set[str]]


def pool_passages(runs: Iterable[Run], depth: int = 20) -> dict[str, set[str]]:
    """Collect the first passages of several systems: what somebody reads to judge each question.

    Args:
        runs: The systems, all over the same questions.
        depth: How many passages of each list are read.

    Returns:
        Question id to passage ids.

    Example:
        >>> sorted(pool_passages([Run("s", {"q": ["a", "b", "c"]}, []), Run("t", {"q": ["b", "d"]}, [])], depth=2)["q"])
        ['a', 'b', 'd']
    """
    pooled: dict[str, set[str]] = {}
    for run in runs:
        for question, ids in run.ranked.items():
            pooled.setdefault(question, set()).update(ids[:depth])
    return pooled


def restrict_to_pool(questions: Iterable[Question], pooled: Pool) -> list[Question]:
    """Keep only the judgments of pooled passages; some questions may lose all their relevant passages.

    Example:
        >>> restrict_to_pool([Question("q", "which way?", "test", {"a": 3, "z": 2})], {"q": {"a", "b"}})[0].relevant
        {'a': 3}
    """
    return [
        replace(
            question, relevant={id_: grade for id_, grade in question.relevant.items() if id_ in pooled[question.id]}
        )
        for question in questions
    ]


def measure_unread(run: Run, pooled: Pool, first: int = 10) -> float:
    """Compute the share of a system's first passages that nobody read, because no pooled system found them.

    Args:
        run: What the system found.
        pooled: Question id to passage ids.
        first: How many passages of each list count.

    Raises:
        ValueError: The run found nothing.

    Example:
        >>> measure_unread(Run("s", {"q": ["a", "z"]}, []), {"q": {"a", "b"}})
        0.5
    """
    seen: Sequence[bool] = [id_ in pooled[question] for question, ids in run.ranked.items() for id_ in ids[:first]]
    if not seen:
        raise ValueError(f"{run.system!r} found nothing, so there is nothing to be read.")
    return seen.count(False) / len(seen)
