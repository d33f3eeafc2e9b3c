"""Is the difference between two systems real, and how many questions would show it?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from nvrerank_helpers.evaluation.measures import Run, measure_each
from nvrerank_helpers.pydocs import Question

RESAMPLES = 9999
SEED = 0  # the same differences give the same interval
ALPHA = 0.05
WORST = ("change", "question", "best passage", "before", "after", "now first", "grade")


@dataclass(frozen=True)
class Comparison:
    """The mean difference between two systems over the same questions.

    Attributes:
        measure: Which measure was compared.
        difference: Mean of the value after minus the value before.
        low: Lower end of the 95 % confidence interval of the mean difference.
        high: Its upper end.
        p: How often a mean difference at least this large appears when before and after are swapped at random.
        better: Questions with a higher value after.
        worse: Questions with a lower one.
        n: Questions compared.
        left_out: Questions without a relevant passage, which no measure can use.
    """

    measure: str
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    n: int
    left_out: int

    def __str__(self) -> str:
        return (
            f"{self.measure} {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p:.4f}, "
            f"{self.n} questions: {self.better} better, {self.worse} worse"
        )


def compare(before: Run, after: Run, questions: Sequence[Question], measure: str = "nDCG@10") -> Comparison:
    """Compare two systems question by question.

    The interval comes from the bias-corrected and accelerated bootstrap, and p from the two-sided permutation test (see
    Smucker, Allan and Carterette, CIKM 2007, for a comparison of such tests). Both are scipy's, with a fixed seed.

    Args:
        before: The baseline's run.
        after: The other system's run, over the same questions.
        questions: The judgments.
        measure: A column of `evaluation.measure` that measures quality.

    Raises:
        ValueError: Fewer than two questions have a relevant passage.
    """
    old, new = measure_each(before, questions, measure), measure_each(after, questions, measure)
    differences = (new - old).to_numpy()
    if len(differences) < 2:
        raise ValueError("A comparison needs at least two questions that have a relevant passage.")
    low, high, p = _test_difference(differences)
    return Comparison(
        measure=measure,
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=p,
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        n=len(differences),
        left_out=len(questions) - len(differences),
    )


def compute_power(effect: float, deviation: float, questions: int) -> float:
    """Compute how likely a paired t-test is to find a difference that really exists, at the 5 % level.

    From the noncentral t distribution, with noncentrality effect / deviation * sqrt(questions) (Cohen, "Statistical
    Power Analysis for the Behavioral Sciences", 1988; Sakai, "Laboratory Experiments in Information Retrieval", 2018).

    Args:
        effect: The true mean difference, such as 0.05 nDCG.
        deviation: Standard deviation of the differences between questions, above 0.
        questions: How many questions are asked, at least 2.

    Raises:
        ValueError: The deviation isn't positive, or there are fewer than two questions.

    Example:
        >>> round(compute_power(effect=0.05, deviation=0.2, questions=128), 2)
        0.8
    """
    if deviation <= 0 or questions < 2:
        raise ValueError("Power needs a deviation above 0 and at least two questions.")
    freedom = questions - 1
    limit = stats.t.ppf(1 - ALPHA / 2, freedom)
    shift = abs(effect) / deviation * math.sqrt(questions)
    other_tail = np.nan_to_num(stats.nct.cdf(-limit, freedom, shift))  # scipy gives nan where it is too small to matter
    return float(stats.nct.sf(limit, freedom, shift) + other_tail)


def find_worst(before: Run, after: Run, questions: Sequence[Question], count: int = 5) -> pd.DataFrame:
    """List the questions that lost most nDCG@10, with the ranks of their best passage.

    Args:
        before: The baseline's run.
        after: The other system's run, over the same questions.
        questions: The judgments.
        count: How many questions at most; a question that lost nothing isn't listed.

    Returns:
        A row for each question id, the largest loss first: `change`, `question`, `best passage` (the highest grade,
        then the best rank before), its rank `before` and `after` (missing if it wasn't found), and `now first` with
        its `grade` (0 if it wasn't judged relevant).
    """
    change = measure_each(after, questions) - measure_each(before, questions)
    asked = {question.id: question for question in questions}
    rows = {}
    for id_, loss in change[change < 0].nsmallest(count).items():
        question, old, new = asked[id_], before.ranked[id_], after.ranked[id_]
        best = min(question.relevant, key=lambda passage: (-question.relevant[passage], _rank(passage, old)))
        first = new[0] if new else None
        rows[id_] = {
            "change": loss,
            "question": question.text,
            "best passage": best,
            "before": _rank(best, old),
            "after": _rank(best, new),
            "now first": first,
            "grade": question.relevant.get(first, 0) if first else 0,
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(WORST))
    return table.replace(math.inf, math.nan).astype({"before": "Int64", "after": "Int64"})


def _rank(passage: str, ranked: Sequence[str]) -> float:
    return ranked.index(passage) + 1 if passage in ranked else math.inf


def _test_difference(differences: np.ndarray) -> tuple[float, float, float]:
    """Return both ends of the interval, and p."""
    if np.ptp(differences) == 0:  # nothing to resample: every sample has the same mean
        return float(differences[0]), float(differences[0]), 2.0 ** (1 - len(differences)) if differences[0] else 1.0
    chance = np.random.default_rng(SEED)
    interval = stats.bootstrap((differences,), np.mean, n_resamples=RESAMPLES, rng=chance).confidence_interval
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=chance
    )
    return float(interval.low), float(interval.high), float(test.pvalue)
