"""The routes for chat completions and embeddings, so that an LLM's client and an embedding client run for real."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from nvrerank_helpers.nim_standin.asgi.waiting import while_connected
from nvrerank_helpers.nim_standin.openai import extractive
from nvrerank_helpers.nim_standin.openai.schemas import (
    CHAT_MODEL,
    CONTEXT_WINDOW,
    EMBEDDING_MODEL,
    Answer,
    ChatCompletion,
    ChatRequest,
    Choice,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    TokenUsage,
)
from nvrerank_helpers.nim_standin.openai.sentences import Sentence
from nvrerank_helpers.nim_standin.profiles import Reason, RefusalError
from nvrerank_helpers.nim_standin.scoring.jobs import Job
from nvrerank_helpers.nim_standin.server.schemas import Usage, body_of, read
from nvrerank_helpers.nim_standin.server.service import Service

__all__ = ["BODIES", "CHAT_MODEL", "EMBEDDING_MODEL", "openai_router"]

BODIES = (ChatRequest, EmbeddingRequest)
"""What the routes take; the document of the API has to hold their schemas."""

EMBEDDING_TOKENS = 512
"""Most tokens of one text to embed, special tokens included: as many as the model has positions."""

KEPT_OF_TOO_LONG = 0.9
"""Share of a text that is kept each time that it proves too long."""


def openai_router(service: Service) -> APIRouter:
    """Make the two routes around a service.

    Args:
        service: What scores and embeds.

    Returns:
        Routes that raise `RefusalError` for what they do not answer.
    """
    router = APIRouter()
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    streamed: dict[int | str, dict[str, Any]] = {
        200: {"description": "The answer; a stream where asked", "content": {"text/event-stream": {"schema": event}}}
    }

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=streamed,
        openapi_extra=body_of(ChatRequest),
    )
    async def complete(request: Request) -> ChatCompletion | StreamingResponse:
        body = await read(request, ChatRequest)
        _check_model(body.model, CHAT_MODEL)
        completion = await while_connected(request.receive, _complete(service, body))
        if body.stream:
            return StreamingResponse(_events(completion, body), media_type="text/event-stream")
        return completion

    @router.post("/v1/embeddings", openapi_extra=body_of(EmbeddingRequest))
    async def embed(request: Request) -> EmbeddingResponse:
        body = await read(request, EmbeddingRequest)
        _check_model(body.model, EMBEDDING_MODEL)
        return await while_connected(request.receive, _embed(service, body))

    return router


def _check_model(asked: str, served: str) -> None:
    if asked != served:
        raise RefusalError(Reason.UNKNOWN_MODEL, f"The model '{asked}' is not served here; this is: {served}")


async def _complete(service: Service, body: ChatRequest) -> ChatCompletion:
    async with service.limits():
        asked, prompt, found = await asyncio.to_thread(_read_conversation, body)
        answer = await _answer(service, prompt, found)
    pieces, reason = extractive.cut(answer, body.stops, body.max_completion_tokens or body.max_tokens)
    return ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        choices=[Choice(message=Answer(content="".join(pieces)), finish_reason=reason)],
        usage=TokenUsage(prompt_tokens=asked, completion_tokens=len(pieces), total_tokens=asked + len(pieces)),
    )


def _read_conversation(body: ChatRequest) -> tuple[int, extractive.Prompt, list[Sentence]]:
    """Return the number of words, what is asked, and what may be quoted."""
    messages = [extractive.Message(message.role, message.text) for message in body.messages]
    asked = sum(len(message.text.split()) for message in messages)
    if asked > CONTEXT_WINDOW:
        message = f"Input length {asked} exceeds maximum allowed token size {CONTEXT_WINDOW}"
        raise RefusalError(Reason.TOO_LONG, message)
    prompt = extractive.read_prompt(messages)
    return asked, prompt, extractive.candidates(prompt)


async def _answer(service: Service, prompt: extractive.Prompt, found: Sequence[Sentence]) -> str:
    if not found or not prompt.question:
        return extractive.compose(prompt, [], [])
    scored = await service.score(Job(prompt.question, extractive.texts_to_judge(found)))
    return extractive.compose(prompt, found, scored.scores.logits.tolist())


def _events(completion: ChatCompletion, body: ChatRequest) -> Iterator[str]:
    """Tell an answer as server-sent events, word by word."""
    [choice] = completion.choices
    told = {"id": completion.id, "object": "extractive.completion.chunk", "created": completion.created}
    told |= {"model": completion.model}
    words = [{"content": word} for word in extractive.tokens(choice.message.content)]
    for delta in ({"role": "assistant", "content": ""}, *words, {}):
        reason = None if delta else choice.finish_reason
        yield _event(told | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    if body.stream_options and body.stream_options.include_usage:
        yield _event(told | {"choices": [], "usage": completion.usage.model_dump()})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


async def _embed(service: Service, body: EmbeddingRequest) -> EmbeddingResponse:
    texts = body.texts
    async with service.limits():
        if body.truncate == "END":
            texts = await asyncio.gather(*(_cut_to_fit(service, text) for text in texts))
        vectors, tokens = await service.embed(texts, EMBEDDING_TOKENS)
    rows = vectors.astype("<f4")
    encoded = [base64.b64encode(row).decode() if body.encoding_format == "base64" else row.tolist() for row in rows]
    return EmbeddingResponse(
        data=[Embedding(index=index, embedding=embedding) for index, embedding in enumerate(encoded)],
        model=body.model,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


async def _cut_to_fit(service: Service, text: str) -> str:
    """Cut a text from the right until it fits; its vector stays known to the model for the answer."""
    while True:
        try:
            await service.embed([text], EMBEDDING_TOKENS)
        except RefusalError as error:
            if error.reason is not Reason.TOO_LONG:
                raise
            text = text[: int(len(text) * KEPT_OF_TOO_LONG)]
        else:
            return text
