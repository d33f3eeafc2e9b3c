from .passages import BEGINNING as BEGINNING
from .passages import load_passages as load_passages
from .passages import strip_title as strip_title
from .questions import Question as Question
from .questions import load_questions as load_questions
