"""Answers as data, and every way in which one of them can be wrong."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Send

from nvrerank_helpers.nim_standin.faults import RankingSpoil, Spoil

Header = tuple[bytes, bytes]
Rankings = list[dict[str, Any]]

HTML = b"<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n"
"""What a proxy or a portal between client and service shows, with status 200."""


@dataclass(frozen=True)
class Answer:
    """A whole answer of an ASGI application.

    Attributes:
        status: HTTP status.
        headers: Names in lower case, and values.
        body: The bytes after the headers.
    """

    status: int
    headers: Sequence[Header]
    body: bytes = b""

    def with_body(self, body: bytes, content_type: bytes | None = None) -> "Answer":
        """Exchange the body, and the headers that tell about it.

        Example:
            >>> Answer(200, [(b"content-length", b"9")]).with_body(b"{}").headers
            [(b'content-length', b'2')]
        """
        told = {b"content-length": b"%d" % len(body)} | ({b"content-type": content_type} if content_type else {})
        kept = [(name, value) for name, value in self.headers if name not in told]
        return replace(self, headers=[*kept, *told.items()], body=body)

    async def start(self, send: Send) -> None:
        """Send the status and the headers."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})

    async def send(self, send: Send) -> None:
        """Send the whole answer."""
        await self.start(send)
        await send({"type": "http.response.body", "body": self.body})


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
