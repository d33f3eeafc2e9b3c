"""Which scorer the option `--scorer` names."""

from collections.abc import Callable

from nvrerank_helpers.nim_standin.scoring.jobs import Scorer

LATE_INTERACTION = "late-interaction"
"""The default scorer. It needs no download and no torch."""

CROSS_ENCODER = "cross-encoder:"
"""Prefix of the hub id or the folder of a cross-encoder."""


def choose_scorer(
    text: str,
    threads: int | None = None,
    cache_mb: int = 256,
    *,
    keep_vectors: bool = False,
    trust_remote_code: bool = False,
) -> Callable[[], Scorer]:
    """Turn the value of `--scorer` into a function that loads the scorer. Nothing heavy is imported before its call."""
    model = text.removeprefix(CROSS_ENCODER)
    if text != LATE_INTERACTION and model in (text, ""):
        raise ValueError(
            f"There is no scorer {text!r}: choose {LATE_INTERACTION}, or {CROSS_ENCODER}<hub id or folder>, "
            f"for example {CROSS_ENCODER}cross-encoder/ms-marco-MiniLM-L6-v2"
        )

    def load() -> Scorer:
        if text == LATE_INTERACTION:
            from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

            return RelevanceModel.load(threads, cache_mb, keep=keep_vectors)
        from nvrerank_helpers.nim_standin.scoring.cross_encoder import CrossEncoderScorer

        return CrossEncoderScorer.load(model, threads, trust_remote_code=trust_remote_code)

    return load
