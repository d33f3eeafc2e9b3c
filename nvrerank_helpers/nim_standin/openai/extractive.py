"""The answers of the stand-in's chat model, which quotes and never generates: pure functions.

`read_prompt` splits a prompt into question and context, and `find_candidates` finds the sentences of the context.
Once the texts of `list_texts_to_score` have been scored against the question, `compose` quotes the best sentences.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nvrerank_helpers.nim_standin.openai.sentences import MAX_CHARACTERS, Sentence, split_sentences

MAX_QUOTES = 3

THRESHOLD = -3.8
"""Logit that a sentence needs. Measured with 100 questions over the corpus and the first four reranked passages as
context: the best sentence reached it for 42 of the 43 questions whose context contains an answer, and for 2 of 100
with the context of another question."""

MARGIN = 1.0
"""How far below the best sentence another one may be: odds of a little under three to one."""

NO_CONTEXT = (
    "I am an extractive stand-in: I write nothing of my own and only quote the context in the prompt, and this prompt "
    "holds none."
)
NO_ANSWER = (
    "The context holds no sentence that answers the question. I am an extractive stand-in: I write nothing of my own "
    "and only quote the context in the prompt."
)

TEMPLATES = (
    # LlamaIndex's own prompts (llama_index.core.prompts), as much as it takes to recognize them: refining an answer,
    # in the form for completion and the two for chat; answering from a context, or from several sources.
    "The original query is as follows: {question}\nWe have provided an existing answer: {earlier}\n"
    "We have the opportunity to refine {}\n------------\n{context}\n------------\n",
    "New Context:\n---------------------\n{context}\n---------------------\nQuery: {question}\n"
    "Original Answer: {earlier}\nNew Answer:",
    "New Context: {context}\nQuery: {question}\nOriginal Answer: {earlier}\nNew Answer:",
    "\n---------------------\n{context}\n---------------------\n{}\nQuery: {question}\nAnswer:",
    "\n---------------------\n{context}\n---------------------\n{question}",
    # System prompts of its chat engines (llama_index.core.chat_engine).
    "\n--------------------\n{context}\n--------------------\nExisting Answer:\n{earlier}\n--------------------\n",
    "\n--------------------\n{context}\n--------------------\n",
    "Here are the relevant documents for the context:\n{context}\n  Existing Answer:\n{earlier}\n  Instruction:",
    "Here are the relevant documents for the context:\n{context}\n  Instruction:",
    # What people write by hand.
    "Context:{context}Question:{question}\nAnswer:",
    "Context:{context}Question:{question}",
    "Question:{question}Context:{context}",
    "Context:{context}",
)

MAX_SOURCE = 300
"""Most characters of a quote's source; no name that `split_sentences` finds is longer."""

QUOTE = re.compile(rf"^“(.{{1,{MAX_CHARACTERS}}}?)” \[([^\n”]{{1,{MAX_SOURCE}}})\]$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"\{(\w*)\}")
TOKEN = re.compile(r"\s*\S+")

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """What a conversation asks for: a question, what may be quoted, and an earlier answer to refine."""

    question: str
    context: str = ""
    earlier: str = ""


def read_prompt(messages: Sequence[Message]) -> Prompt:
    r"""Find the question and the context in a conversation, oldest message first.

    The question is in the last user message. The context is there too, or in a system prompt, or in the latest
    earlier user message that has one. Recognized are LlamaIndex's prompts, `Context:` with `Question:`, and text with
    a question as its first or last line. Otherwise the whole last user message is the question.

    Example:
        >>> read_prompt([Message("user", "Lists are mutable.\n\nAre lists mutable?")])
        Prompt(question='Are lists mutable?', context='Lists are mutable.', earlier='')
    """
    from_users = [_read_user(message.text) for message in messages if message.role == "user"] or [Prompt("")]
    from_systems = [_read_template(message.text) for message in messages if message.role in {"system", "developer"}]
    last = from_users[-1]
    if last.context:
        return last
    others = [*reversed(from_systems), *reversed(from_users)]
    source = next((prompt for prompt in others if prompt and prompt.context), last)
    return Prompt(last.question, source.context, source.earlier)


def _read_user(text: str) -> Prompt:
    prompt = _read_template(text)
    if prompt and prompt.question:
        return prompt
    lines = (prompt.context if prompt else text).strip().split("\n")
    for question, rest in ((lines[-1], lines[:-1]), (lines[0], lines[1:])):
        if rest and question.rstrip().endswith("?"):
            return Prompt(question.strip(), "\n".join(rest).strip("\n"))
    return prompt or Prompt(text.strip())


def _read_template(text: str) -> Prompt | None:
    for template in TEMPLATES:
        if parts := _match_template(template, text):
            return Prompt(parts.get("question", "").strip(), parts["context"].strip("\n"), parts.get("earlier", ""))
    return None


def _match_template(template: str, text: str) -> dict[str, str] | None:
    """Return the fields of a template in a text; its fixed words are matched from both ends toward the context."""
    words, names = FIELD.split(template)[::2], FIELD.findall(template)
    middle = names.index("context") + 1
    start, end = 0, len(text)
    parts = {}
    for name, fixed in zip(["", *names], words[:middle], strict=False):
        if (found := text.find(fixed, start)) < 0:
            return None
        parts[name], start = text[start:found], found + len(fixed)
    for name, fixed in zip([*names[middle:], ""][::-1], words[middle:][::-1], strict=True):
        if (found := text.rfind(fixed, start, end)) < 0:
            return None
        parts[name], end = text[found + len(fixed) : end], found
    return parts | {"context": text[start:end]}


def find_candidates(prompt: Prompt) -> list[Sentence]:
    """Find what may be quoted: the quotes of an earlier answer, and the sentences of the context, no text twice.

    Quotes in the context keep their source, as where answers are summarized.

    Example:
        >>> find_candidates(Prompt("", "“Lists are mutable objects.” [list]"))
        [Sentence(text='Lists are mutable objects.', source='list')]
    """
    quotes = [Sentence(*parts) for text in (prompt.earlier, prompt.context) for parts in QUOTE.findall(text)]
    found = [*quotes, *split_sentences(QUOTE.sub("", prompt.context))]
    return list({sentence.text: sentence for sentence in reversed(found)}.values())[::-1]


def list_texts_to_score(found: Sequence[Sentence]) -> list[str]:
    """Return what is scored against the question: every sentence alone, then every sentence under its source's name.

    The mean of the two chose better than either: of 54 questions over the corpus whose context contains an answer, the
    first quote came from a passage that answers for 42, 39 and 38.
    """
    return [sentence.text for sentence in found] + [f"{sentence.source}\n{sentence.text}" for sentence in found]


def compose(prompt: Prompt, found: Sequence[Sentence], logits: Sequence[float]) -> str:
    """Answer with at most three quotes, most relevant first, a line each, or say why there is none.

    `logits` are those of `list_texts_to_score(found)`.

    Example:
        >>> found = [Sentence("Lists are mutable objects.", "list"), Sentence("Tuples never change.", "tuple")]
        >>> compose(Prompt("Are lists mutable?", "…"), found, [1.0, -6.0, 2.0, -6.0])
        '“Lists are mutable objects.” [list]'
    """
    if not found and not prompt.context.strip():
        return NO_CONTEXT
    relevance = [(plain + named) / 2 for plain, named in zip(logits[: len(found)], logits[len(found) :], strict=True)]
    needed = max([THRESHOLD, *(logit - MARGIN for logit in relevance)])
    ranked = sorted(range(len(found)), key=lambda position: -relevance[position])[:MAX_QUOTES]
    quotes = [f"“{found[best].text}” [{found[best].source}]" for best in ranked if relevance[best] >= needed]
    return "\n".join(quotes) or NO_ANSWER


def tokenize(text: str) -> list[str]:
    """Split a text into the tokens of this model: words, each with the white space before it."""
    return TOKEN.findall(text)


def truncate_answer(answer: str, stops: Iterable[str], max_tokens: int | None) -> tuple[list[str], FinishReason]:
    """Cut an answer before the first of `stops` and after `max_tokens`; return its tokens, and why it ends there.

    Example:
        >>> truncate_answer("Lists are mutable.", [], 2)
        (['Lists', ' are'], 'length')
    """
    end = min((found for stop in stops if (found := answer.find(stop)) >= 0), default=len(answer))
    words = tokenize(answer[:end])
    if max_tokens is not None and len(words) > max_tokens:
        return words[:max_tokens], "length"
    return words, "stop"
