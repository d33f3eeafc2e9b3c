"""Answers as data, and every way in which one of them can be wrong."""

import json
import random
from collections.abc import Callable
from typing import Any

from nvrerank_helpers.nim_standin.asgi.answer import Answer
from nvrerank_helpers.nim_standin.faults.specs import RankingSpoil, Spoil

Rankings = list[dict[str, Any]]

HTML = b"<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n"
"""What a proxy or a portal between client and service shows, with status 200."""


def spoilt(answer: Answer, spoil: Spoil, rng: random.Random) -> Answer:
    """Spoil an answer.

    Args:
        answer: What the service would send, with status 200.
        spoil: In which way; a ranking spoil leaves an answer without rankings alone.
        rng: Chooses the ranking to spoil, where one is enough.

    Returns:
        The spoilt answer, with a matching `Content-Length`.

    Example:
        >>> body = b'{"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1.0}]}'
        >>> spoilt(Answer(200, [], body), "unsorted", random.Random(0)).body
        b'{"rankings":[{"index":0,"logit":-1.0},{"index":1,"logit":2.5}]}'
    """
    if spoil == "html":
        return answer.with_body(HTML, b"text/html; charset=utf-8")
    if spoil == "broken":
        return answer.with_body(answer.body[: len(answer.body) // 2])
    content = _content(answer.body)
    if content is None:
        return answer
    if spoil == "no_rankings":
        del content["rankings"]
    else:
        content["rankings"] = _SPOILS[spoil](content["rankings"], rng)
    return answer.with_body(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def _content(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.get("rankings") else None


def _unsorted(rankings: Rankings, _: random.Random) -> Rankings:
    return rankings[::-1]


def _missing(rankings: Rankings, rng: random.Random) -> Rankings:
    left_out = rng.randrange(len(rankings))
    return rankings[:left_out] + rankings[left_out + 1 :]


def _duplicate(rankings: Rankings, rng: random.Random) -> Rankings:
    """Give one ranking the index of the next; where there is no other, rank it twice."""
    if len(rankings) == 1:
        return rankings * 2
    place = rng.randrange(len(rankings))
    return _changed(rankings, place, index=rankings[place - 1]["index"])


def _out_of_range(rankings: Rankings, rng: random.Random) -> Rankings:
    return _changed(rankings, rng.randrange(len(rankings)), index=len(rankings))


def _negative(rankings: Rankings, rng: random.Random) -> Rankings:
    last = len(rankings) - 1  # in Python, -1 names the last passage: there it would be right by accident
    places = [place for place, ranking in enumerate(rankings) if ranking["index"] != last]
    return _changed(rankings, rng.choice(places or [0]), index=-1)


def _nan(rankings: Rankings, rng: random.Random) -> Rankings:
    return _changed(rankings, rng.randrange(len(rankings)), logit=float("nan"))


def _strings(rankings: Rankings, _: random.Random) -> Rankings:
    return [{name: str(value) for name, value in ranking.items()} for ranking in rankings]


def _changed(rankings: Rankings, place: int, **changes: float) -> Rankings:
    return [*rankings[:place], rankings[place] | changes, *rankings[place + 1 :]]


_SPOILS: dict[RankingSpoil, Callable[[Rankings, random.Random], Rankings]] = {
    "unsorted": _unsorted,
    "missing": _missing,
    "duplicate": _duplicate,
    "out_of_range": _out_of_range,
    "negative": _negative,
    "nan": _nan,
    "strings": _strings,
}
