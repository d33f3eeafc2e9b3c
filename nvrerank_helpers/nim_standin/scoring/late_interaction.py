"""The relevance model of the stand-in: late interaction over all-MiniLM-L6-v2.

The raw score of a passage is the cosine of the mean vectors of query and passage, plus the weighted mean over
the query's tokens of each one's best cosine with a token of the passage (MaxSim: Khattab and Zaharia, ColBERT,
SIGIR 2020). A line maps it to a logit. The score of a passage is bit for bit the same whatever else is scored.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.minilm import Encoded, Key, Pending, TextEncoder, UnfinishedError
from nvrerank_helpers.nim_standin.profiles import MAX_TOKENS, Truncate
from nvrerank_helpers.nim_standin.scoring.jobs import InputTooLongError, Job, Result, Scores

LOGIT_SLOPE, LOGIT_INTERCEPT = 5.9, -8.7
"""logit = slope * raw + intercept, fitted on the development questions by `tools.notebook_tool.questions fit`."""

FUNCTION_WORD_WEIGHT = 0.2
"""Weight of a function word or a punctuation mark among the query's tokens; every other token weighs 1."""

FUNCTION_WORDS = frozenset(
    " ".join(
        (
            "a about am an and any are as at be been being but by can could did do does doing for from had has have",
            "having he her here his how i if in into is it its me my no nor not of on or our please she should so some",
            "such than that the their them then there these they this those to us was we were what when where which",
            "while who whom whose why will with would you your",
        )
    ).split()
)

PAIR_SPECIALS = 3
"""Special tokens of a pair: [CLS] query [SEP] passage [SEP]."""

TEXT_SPECIALS = 2
"""Special tokens of a text alone: [CLS] text [SEP]."""


@dataclass(frozen=True)
class Plan:
    """A job, and its texts as far as they are encoded."""

    job: Job
    question: Encoded | Pending
    passages: Mapping[str, Encoded | Pending]

    @property
    def pending(self) -> list[Pending]:
        """The texts that still have to be encoded."""
        return [text for text in (self.question, *self.passages.values()) if isinstance(text, Pending)]


class RelevanceModel:
    """Scores passages against a query, each one on its own; a `Scorer` for the engine.

    Example:
        >>> model = RelevanceModel.load()
        >>> scores = model.score("how to sort a list", ["Return a new sorted list.", "Open a file."])
        >>> bool(scores.logits[0] > scores.logits[1])
        True
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._token_weights = np.array([_token_weight(token) for token in encoder.vocabulary], dtype=np.float32)

    @classmethod
    def load(cls, threads: int | None = None, cache_mb: int = 256) -> Self:
        """Load the model from the installed weights; about a third of a second.

        Args:
            threads: Texts encoded at the same time, each on one core; None takes the cores that this process may use.
            cache_mb: Memory for the vectors of texts seen before, in MiB.

        Returns:
            A model ready to score.

        Raises:
            WeightsError: The weights are not installed, or are not the official ones.
        """
        return cls(TextEncoder.load(threads, cache_mb))

    def score(
        self, query: str, passages: Sequence[str], *, max_tokens: int = MAX_TOKENS, truncate: Truncate = "END"
    ) -> Scores:
        """Score every passage against the query.

        Args:
            query: The question.
            passages: The texts to judge.
            max_tokens: Limit for a query with one passage, special tokens included.
            truncate: With "END" an over-long pair is cut from the right; with "NONE" it is an error.

        Returns:
            Raw scores, logits and token counts, in the order of `passages`.

        Raises:
            InputTooLongError: A pair is longer than `max_tokens` and `truncate` is "NONE"; nothing was scored.
        """
        result: Result = UnfinishedError()
        while isinstance(result, UnfinishedError):
            [(_, result)] = self.score_jobs([Job(query, passages, max_tokens, truncate)])
        if isinstance(result, InputTooLongError):
            raise result
        return result

    def score_jobs(
        self, jobs: Sequence[Job], gone: Callable[[int], bool] = lambda _: False
    ) -> Iterator[tuple[int, Result]]:
        """Score several jobs together; a text that several of them need is encoded once.

        Args:
            jobs: What to judge.
            gone: Whether nobody waits for the job at this position any more.

        Yields:
            The position of a job and its result, as soon as that job is complete. Jobs that are gone are left out.
        """
        plans: dict[int, Plan] = {}
        for position, job in enumerate(jobs):
            try:
                if not gone(position):
                    plans[position] = self._plan(job)
            except (InputTooLongError, UnfinishedError) as error:
                yield position, error
        pending = {text.key: text for plan in plans.values() for text in plan.pending}
        wanted: defaultdict[Key, set[int]] = defaultdict(set)
        for position, plan in plans.items():
            for text in plan.pending:
                wanted[text.key].add(position)
        missing = Counter(position for positions in wanted.values() for position in positions)
        yield from ((position, self._judge(plan, {})) for position, plan in plans.items() if not missing[position])
        encoded: dict[Key, Encoded] = {}
        for key, result in self._encoder.encode_all(pending.values(), lambda key: all(map(gone, wanted[key]))):
            encoded[key] = result
            missing.subtract(wanted[key])
            for position in wanted[key]:
                if not missing[position] and not gone(position):
                    yield position, self._judge(plans[position], encoded)

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Turn texts into unit vectors: the mean over a text's tokens, and over its windows if it has several.

        Args:
            texts: What to embed.
            max_tokens: Limit of one text, special tokens included.

        Returns:
            The vectors, shape (texts, 384), and the number of all tokens, specials included.

        Raises:
            InputTooLongError: A text is longer than `max_tokens`.
            UnfinishedError: A text is so long that this takes several calls; the next one goes on.
        """
        found = self._encoder.find(texts, max_tokens - TEXT_SPECIALS)
        for text, known in found.items():
            if not known.whole:
                raise InputTooLongError(self._encoder.count(text) + TEXT_SPECIALS, max_tokens)
        pending = {text.key: text for text in found.values() if isinstance(text, Pending)}
        encoded = dict(self._encoder.encode_all(pending.values()))
        means = {text: _mean(_finished(known, encoded)) for text, known in found.items()}
        tokens = sum(len(found[text].ids) + TEXT_SPECIALS for text in texts)
        return np.array([means[text] for text in texts], dtype=np.float32), tokens

    def close(self) -> None:
        """Give up the texts that wait to be encoded."""
        self._encoder.close()

    def _plan(self, job: Job) -> Plan:
        question = self._encoder.find([job.query], job.max_tokens - PAIR_SPECIALS)[job.query]
        passages = self._encoder.find(job.passages, job.max_tokens - PAIR_SPECIALS - len(question.ids))
        if job.truncate == "NONE":
            for text, known in passages.items():
                if not (question.whole and known.whole):
                    length = self._encoder.count(job.query) + self._encoder.count(text) + PAIR_SPECIALS
                    raise InputTooLongError(length, job.max_tokens)
        return Plan(job, question, passages)

    def _judge(self, plan: Plan, encoded: Mapping[Key, Encoded]) -> Scores:
        question = _finished(plan.question, encoded)
        asked, weights = question.vectors.astype(np.float32).T, self._token_weights[question.ids]
        raw = {
            text: _raw_score(question, asked, weights, _finished(known, encoded))
            for text, known in plan.passages.items()
        }
        tokens = {text: len(question.ids) + len(known.ids) + PAIR_SPECIALS for text, known in plan.passages.items()}
        return Scores(
            np.array([raw[text] for text in plan.job.passages], dtype=np.float32),
            np.array([tokens[text] for text in plan.job.passages], dtype=np.int64),
            LOGIT_SLOPE,
            LOGIT_INTERCEPT,
        )


def _finished(text: Encoded | Pending, encoded: Mapping[Key, Encoded]) -> Encoded:
    return encoded[text.key] if isinstance(text, Pending) else text


def _mean(text: Encoded) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = text.vectors[: text.windows].astype(np.float32).mean(axis=0)
    return mean / np.linalg.norm(mean)


def _raw_score(question: Encoded, asked: NDArray[np.float32], weights: NDArray[np.float32], passage: Encoded) -> float:
    """Cosine of the mean vectors (the best pair of windows) plus weighted MaxSim over the query's tokens."""
    cosines = passage.vectors.astype(np.float32) @ asked
    whole = cosines[: passage.windows, : question.windows].max()
    if not len(question.ids) or not len(passage.ids):
        return float(whole)
    best = cosines[passage.windows :, question.windows :].max(axis=0)
    return float(whole + (best * weights).sum() / weights.sum())


def _token_weight(token: str) -> float:
    is_content = any(map(str.isalnum, token)) and token not in FUNCTION_WORDS
    return 1.0 if is_content else FUNCTION_WORD_WEIGHT
