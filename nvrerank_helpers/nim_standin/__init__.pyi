from .control import StandInControl as StandInControl
from .openai.schemas import CHAT_MODEL as CHAT_MODEL
from .openai.schemas import CONTEXT_WINDOW as CONTEXT_WINDOW
from .process import INSTALL as INSTALL
from .process import StandIn as StandIn
from .process import StandInError as StandInError
from .scoring.late_interaction import RelevanceModel as RelevanceModel
from .server.catalog_gateway import LESSON_KEYS as LESSON_KEYS
