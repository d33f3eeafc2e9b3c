"""The bodies of chat completions and embeddings as types, in the shape of OpenAI's API.

Reference: https://platform.openai.com/docs/api-reference . `input_type` and `truncate` of embeddings are NVIDIA's
(https://docs.nvidia.com/nim/nemo-retriever/text-embedding/latest/reference.html). Fields without effect here are
accepted and checked; a request for what the stand-in cannot do is refused.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from nvrerank_helpers.nim_standin.faults.specs import IntegralNumber
from nvrerank_helpers.nim_standin.openai.extractive import FinishReason
from nvrerank_helpers.nim_standin.server.schemas import ModelName, Text, Usage

CHAT_MODEL = "stand-in/extractive-qa"
CONTEXT_WINDOW = 16_384
"""Most tokens of a conversation with the chat model; its token is a word."""

EMBEDDING_MODEL = "stand-in/all-minilm-l6-v2"

DIMENSIONS = 384
"""Length of the vectors of all-MiniLM-L6-v2."""

MAX_MESSAGES = 256
"""Most messages of a conversation, and parts of a message."""

MAX_MESSAGE = 200_000
"""Most characters of one message, all its parts together; the chat model reads fewer."""


def _refuse_tools(value: object) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported", "The extractive stand-in calls no tools: leave this field out")


def _refuse_true(value: bool) -> bool:  # noqa: FBT001 - pydantic calls it
    if value:
        raise PydanticCustomError("unsupported", "The extractive stand-in has no probabilities of words: leave it out")
    return value


AnyText = Annotated[str, Field(max_length=MAX_MESSAGE)]
OneOrMany = Discriminator(lambda value: "many" if isinstance(value, list) else "one")
Unsupported = Annotated[None, BeforeValidator(_refuse_tools)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1), IntegralNumber]
FalseOnly = Annotated[bool, AfterValidator(_refuse_true), Field(json_schema_extra={"const": False})]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True)


class TextPart(_Body):
    """One part of a message; only text can be quoted."""

    type: Literal["text"]
    text: AnyText


def _check_total_length(content: str | list[TextPart]) -> str | list[TextPart]:
    if not isinstance(content, str) and sum(len(part.text) + 1 for part in content) > MAX_MESSAGE + 1:
        raise PydanticCustomError("message_too_long", f"The parts of a message have at most {MAX_MESSAGE:,} characters")
    return content


class ChatMessage(_Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[AnyText, Tag("one")]
        | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES), Tag("many")],
        OneOrMany,
        AfterValidator(_check_total_length),
    ]

    @property
    def text(self) -> str:
        """The whole text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class TextFormat(_Body):
    """The form of the answer, always text."""

    type: Literal["text"]


class StreamOptions(_Body):
    """What a stream contains besides the answer."""

    include_usage: bool | None = None


class ChatRequest(_Body):
    """Body of a request for an answer; the model doesn't sample, so the sampling settings have no effect."""

    model: Annotated[ModelName, Field(examples=[CHAT_MODEL])]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    stop: (
        Annotated[Annotated[Text, Tag("one")] | Annotated[list[Text], Field(max_length=4), Tag("many")], OneOrMany]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=1), IntegralNumber] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), IntegralNumber] | None = None
    logprobs: FalseOnly | None = None
    response_format: TextFormat | None = None
    tools: Unsupported = None
    functions: Unsupported = None

    @property
    def stops(self) -> list[str]:
        """The texts before which the answer ends."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class TokenUsage(Usage):
    """Tokens of the conversation and of the answer; a token of this model is a word."""

    completion_tokens: int


class AssistantMessage(BaseModel):
    """The message that answers."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(BaseModel):
    """A complete answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


class EmbeddingRequest(_Body):
    """Body of a request for vectors; the model is symmetric, so `input_type` has no effect."""

    model: Annotated[ModelName, Field(examples=[EMBEDDING_MODEL])]
    input: Annotated[
        Annotated[Text, Tag("one")] | Annotated[list[Text], Field(min_length=1, max_length=512), Tag("many")],
        OneOrMany,
    ]
    input_type: Literal["query", "passage"] | None = None
    truncate: Literal["NONE", "END"] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=DIMENSIONS, le=DIMENSIONS), IntegralNumber] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingEntry(BaseModel):
    """The unit vector of one text: numbers, or the base64 of their bytes as little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingResponse(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[EmbeddingEntry]
    model: str
    usage: Usage
