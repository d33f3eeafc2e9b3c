"""The judged questions."""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

Split = Literal["development", "test"]


@dataclass(frozen=True)
class Question:
    """One question and its judgments.

    Attributes:
        id: Short name, for example `q017`.
        text: The question as a person would ask it.
        split: `development` (for choices and fits) or `test` (for the figures that are reported).
        relevant: Passage id to grade: 3 answers it, 2 answers a part, 1 helps.
        begins: How the judged parts of long texts begin, by passage id: another Python may number them differently.
        kind: What makes it hard, such as `paraphrase` or `no_answer` (nothing in the corpus answers it); mostly empty.
    """

    id: str
    text: str
    split: Split
    relevant: dict[str, int]
    begins: dict[str, str] = field(default_factory=dict)
    kind: str = ""


def load_questions(split: Split | None = None) -> list[Question]:
    """Load the judged questions.

    Args:
        split: `development` or `test`; None gives both.

    Returns:
        The questions in the order of the file, judged on Python 3.11. `evaluation.present` fits them to the passages
        of another version.

    Example:
        >>> len(load_questions("test")) >= 30
        True
    """
    lines = files(__package__).joinpath("questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [Question(**json.loads(line)) for line in lines]
    return [question for question in questions if split in (None, question.split)]
