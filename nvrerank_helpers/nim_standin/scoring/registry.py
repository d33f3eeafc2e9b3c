"""Which scorer `--scorer` names."""

from collections.abc import Callable
from functools import partial

from nvrerank_helpers.nim_standin.scoring.jobs import Scorer

LATE_INTERACTION = "late-interaction"
"""The scorer that comes with the course; it needs no download and no torch."""

CROSS_ENCODER = "cross-encoder:"
"""What stands before the hub id or the folder of a cross-encoder."""


def scorer_loader(
    text: str, threads: int | None = None, cache_mb: int = 256, *, trust_remote_code: bool = False
) -> Callable[[], Scorer]:
    """Turn the value of `--scorer` into what loads the scorer.

    Args:
        text: `late-interaction`, or `cross-encoder:` with a hub id or a folder behind it.
        threads: Cores to use; None takes those that this process may use.
        cache_mb: Memory for texts seen before, in MiB; late interaction only.
        trust_remote_code: Whether code that comes with a cross-encoder's weights may run; cross-encoders only.

    Returns:
        A function for `Engine`; nothing heavy is imported before it is called.

    Raises:
        ValueError: There is no such scorer.

    Example:
        >>> type(scorer_loader("late-interaction", threads=2)()).__name__
        'RelevanceModel'
    """
    if text == LATE_INTERACTION:
        return partial(_load_late_interaction, threads, cache_mb)
    model = text.removeprefix(CROSS_ENCODER)
    if model == text or not model:
        raise ValueError(
            f"There is no scorer {text!r}: choose {LATE_INTERACTION}, or {CROSS_ENCODER}<hub id or folder>, "
            f"for example {CROSS_ENCODER}cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    return partial(_load_cross_encoder, model, threads, trust_remote_code=trust_remote_code)


def _load_late_interaction(threads: int | None, cache_mb: int) -> Scorer:
    from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

    return RelevanceModel.load(threads, cache_mb)


def _load_cross_encoder(model: str, threads: int | None, *, trust_remote_code: bool) -> Scorer:
    from nvrerank_helpers.nim_standin.scoring.cross_encoder import CrossEncoderScorer

    return CrossEncoderScorer.load(model, threads, trust_remote_code=trust_remote_code)
