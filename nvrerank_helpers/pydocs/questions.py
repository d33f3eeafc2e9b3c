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
        split: `development` (for choosing and fitting) or `test` (for reported figures).
        relevant: Passage id to grade: 3 answers it, 2 answers a part, 1 helps.
        begins: Passage id to the first words of a judged part of a long text. Another Python may number the parts
            differently.
        kind: What makes it hard, such as `paraphrase` or `no_answer` (nothing in the corpus answers it); usually empty.
    """

    id: str
    text: str
    split: Split
    relevant: dict[str, int]
    begins: dict[str, str] = field(default_factory=dict)
    kind: str = ""


def load_questions(split: Split | None = None) -> list[Question]:
    """Load the judged questions, all of them or those of one split.

    They were judged on Python 3.11; `evaluation.fit_judgments` fits them to the passages of another version.

    Example:
        >>> len(load_questions("test")) >= 30
        True
    """
    lines = files(__package__).joinpath("questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [Question(**json.loads(line)) for line in lines]
    return [question for question in questions if split in (None, question.split)]
