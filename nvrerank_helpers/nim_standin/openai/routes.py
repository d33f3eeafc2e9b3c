"""The routes for chat completions and embeddings, so that clients of LLMs and embedding models run for real."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from nvrerank_helpers.nim_standin.asgi.disconnects import run_until_disconnect
from nvrerank_helpers.nim_standin.openai import extractive
from nvrerank_helpers.nim_standin.openai.schemas import (
    CHAT_MODEL,
    CONTEXT_WINDOW,
    EMBEDDING_MODEL,
    AssistantMessage,
    ChatCompletion,
    ChatRequest,
    Choice,
    EmbeddingEntry,
    EmbeddingRequest,
    EmbeddingResponse,
    TokenUsage,
)
from nvrerank_helpers.nim_standin.openai.sentences import Sentence
from nvrerank_helpers.nim_standin.profiles import Reason, RefusalError
from nvrerank_helpers.nim_standin.scoring.jobs import Job
from nvrerank_helpers.nim_standin.server.schemas import Usage, describe_body, parse_body
from nvrerank_helpers.nim_standin.server.service import StandInService

BODIES = (ChatRequest, EmbeddingRequest)
"""The request types, whose schemas belong in `/openapi.json`."""

EMBEDDING_TOKENS = 512
"""Most tokens of one text to embed, special tokens included: as many as the model has positions."""

TRUNCATION_STEP = 0.9
"""Share of a text that is kept each time it proves too long."""


def build_openai_router(service: StandInService) -> APIRouter:
    """Build the two routes around a service."""
    router = APIRouter()
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    stream: dict[int | str, dict[str, Any]] = {
        200: {"description": "The answer; a stream where asked", "content": {"text/event-stream": {"schema": event}}}
    }

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=stream,
        openapi_extra=describe_body(ChatRequest),
    )
    async def complete(request: Request) -> ChatCompletion | StreamingResponse:
        body = await parse_body(request, ChatRequest)
        _check_model(body.model, CHAT_MODEL)
        completion = await run_until_disconnect(request.receive, _complete(service, body))
        if body.stream:
            return StreamingResponse(_stream(completion, body), media_type="text/event-stream")
        return completion

    @router.post("/v1/embeddings", openapi_extra=describe_body(EmbeddingRequest))
    async def embed(request: Request) -> EmbeddingResponse:
        body = await parse_body(request, EmbeddingRequest)
        _check_model(body.model, EMBEDDING_MODEL)
        return await run_until_disconnect(request.receive, _embed(service, body))

    return router


def _check_model(asked: str, served: str) -> None:
    if asked != served:
        raise RefusalError(Reason.UNKNOWN_MODEL, f"The model '{asked}' is not served here; this is: {served}")


async def _complete(service: StandInService, body: ChatRequest) -> ChatCompletion:
    async with service.limits():
        length, prompt, found = await asyncio.to_thread(_read_conversation, body)
        answer = await _answer(service, prompt, found)
    words, reason = extractive.truncate_answer(answer, body.stops, body.max_completion_tokens or body.max_tokens)
    return ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        choices=[Choice(message=AssistantMessage(content="".join(words)), finish_reason=reason)],
        usage=TokenUsage(prompt_tokens=length, completion_tokens=len(words), total_tokens=length + len(words)),
    )


def _read_conversation(body: ChatRequest) -> tuple[int, extractive.Prompt, list[Sentence]]:
    """Return the number of words, the prompt, and the sentences that may be quoted."""
    messages = [extractive.Message(message.role, message.text) for message in body.messages]
    length = sum(len(message.text.split()) for message in messages)
    if length > CONTEXT_WINDOW:
        message = f"Input length {length} exceeds maximum allowed token size {CONTEXT_WINDOW}"
        raise RefusalError(Reason.TOO_LONG, message)
    prompt = extractive.read_prompt(messages)
    return length, prompt, extractive.find_candidates(prompt)


async def _answer(service: StandInService, prompt: extractive.Prompt, found: Sequence[Sentence]) -> str:
    if not found or not prompt.question:
        return extractive.compose(prompt, [], [])
    result = await service.score(Job(prompt.question, extractive.list_texts_to_score(found)))
    return extractive.compose(prompt, found, result.scores.logits.tolist())


def _stream(completion: ChatCompletion, body: ChatRequest) -> Iterator[str]:
    """Send an answer as server-sent events, word by word."""
    [choice] = completion.choices
    chunk = {"id": completion.id, "object": "chat.completion.chunk", "created": completion.created}
    chunk |= {"model": completion.model}
    words = [{"content": word} for word in extractive.tokenize(choice.message.content)]
    for delta in ({"role": "assistant", "content": ""}, *words, {}):
        reason = None if delta else choice.finish_reason
        yield _format_event(chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    if body.stream_options and body.stream_options.include_usage:
        yield _format_event(chunk | {"choices": [], "usage": completion.usage.model_dump()})
    yield "data: [DONE]\n\n"


def _format_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


async def _embed(service: StandInService, body: EmbeddingRequest) -> EmbeddingResponse:
    texts = body.texts
    async with service.limits():
        if body.truncate == "END":
            texts = await asyncio.gather(*(_truncate(service, text) for text in texts))
        vectors, tokens = await service.embed(texts, EMBEDDING_TOKENS)
    rows = vectors.astype("<f4")
    encoded = [base64.b64encode(row).decode() if body.encoding_format == "base64" else row.tolist() for row in rows]
    return EmbeddingResponse(
        data=[EmbeddingEntry(index=index, embedding=embedding) for index, embedding in enumerate(encoded)],
        model=body.model,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


async def _truncate(service: StandInService, text: str) -> str:
    """Shorten a text from the right until it fits; the model then keeps its vector for the answer."""
    while True:
        try:
            await service.embed([text], EMBEDDING_TOKENS)
        except RefusalError as error:
            if error.reason is not Reason.TOO_LONG:
                raise
            text = text[: int(len(text) * TRUNCATION_STEP)]
        else:
            return text
