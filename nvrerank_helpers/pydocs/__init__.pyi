from .passages import BEGINNING as BEGINNING
from .passages import body as body
from .passages import load_passages as load_passages
from .passages import split_at_paragraphs as split_at_paragraphs
from .questions import Question as Question
from .questions import load_questions as load_questions
