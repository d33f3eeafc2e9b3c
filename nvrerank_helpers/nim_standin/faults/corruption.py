"""Every way in which a ranking response can be wrong."""

import json
import random
from collections.abc import Sequence
from typing import Any

from nvrerank_helpers.nim_standin.asgi.responses import BufferedResponse
from nvrerank_helpers.nim_standin.faults.specs import Corruption, RankingCorruption

Rankings = list[dict[str, Any]]

HTML = b"<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n"
"""What a proxy or a portal between client and service shows, with status 200."""


def corrupt(response: BufferedResponse, corruption: Corruption, rng: random.Random) -> BufferedResponse:
    """Corrupt a response with status 200; one without rankings stays unchanged unless it becomes `html` or `broken`.

    Example:
        >>> body = b'{"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1.0}]}'
        >>> corrupt(BufferedResponse(200, [], body), "unsorted", random.Random(0)).body
        b'{"rankings":[{"index":0,"logit":-1.0},{"index":1,"logit":2.5}]}'
    """
    if corruption == "html":
        return response.with_body(HTML, b"text/html; charset=utf-8")
    if corruption == "broken":
        return response.with_body(response.body[: len(response.body) // 2])
    content = _parse_rankings(response.body)
    if content is None:
        return response
    if corruption == "no_rankings":
        del content["rankings"]
    else:
        content["rankings"] = _corrupt_rankings(content["rankings"], corruption, rng)
    return response.with_body(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def _parse_rankings(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.get("rankings") else None


def _corrupt_rankings(rankings: Rankings, corruption: RankingCorruption, rng: random.Random) -> Rankings:
    length = len(rankings)
    if corruption == "unsorted":
        return rankings[::-1]
    if corruption == "strings":
        return [{name: str(value) for name, value in ranking.items()} for ranking in rankings]
    if corruption == "duplicate" and length == 1:
        return rankings * 2
    positions: Sequence[int] = range(length)
    if corruption == "negative":  # in Python, -1 is the last passage: there it would be right by accident
        positions = [at for at in positions if rankings[at]["index"] != length - 1] or positions
    position = rng.choice(positions)
    if corruption == "missing":
        return rankings[:position] + rankings[position + 1 :]
    changes = {
        "duplicate": {"index": rankings[position - 1]["index"]},
        "out_of_range": {"index": length},
        "negative": {"index": -1},
        "nan": {"logit": float("nan")},
    }
    return [*rankings[:position], rankings[position] | changes[corruption], *rankings[position + 1 :]]
