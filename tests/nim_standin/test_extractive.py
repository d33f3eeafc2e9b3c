"""The chat model: it finds question and context in a conversation, and answers only with quotes from the context."""

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import condense_plus_context, context
from llama_index.core.prompts import BasePromptTemplate, chat_prompts, default_prompts

from nvrerank_helpers.nim_standin.openai.extractive import (
    MARGIN,
    NO_ANSWER,
    NO_CONTEXT,
    THRESHOLD,
    Message,
    Prompt,
    compose,
    find_candidates,
    read_prompt,
    tokenize,
    truncate_answer,
)
from nvrerank_helpers.nim_standin.openai.sentences import Sentence

CONTEXT = "name: list.sort\n\nSort the list in place.\n---------------------\nThe sort is stable, as promised."
QUESTION = "Is the sort\nstable? Query: yes"
EARLIER = "“It has been stable since 2.3.” [history]"
FOUND = [Sentence(f"This is sentence number {number}.", f"source {number}") for number in range(5)]


def render(template: BasePromptTemplate) -> list[Message]:
    parts = {
        "context_str": CONTEXT,
        "context_msg": CONTEXT,
        "context_messages": [ChatMessage(CONTEXT)],
        "query_str": QUESTION,
        "existing_answer": EARLIER,
    }
    return [Message(message.role.value, message.content or "") for message in template.format_messages(**parts)]


def answer(*logits: float) -> str:
    found = FOUND[: len(logits)]
    return compose(Prompt("?", "…"), found, [*logits, *logits])


@pytest.mark.parametrize(
    ("template", "earlier"),
    [
        (default_prompts.DEFAULT_TEXT_QA_PROMPT, ""),
        (default_prompts.DEFAULT_TREE_SUMMARIZE_PROMPT, ""),
        (default_prompts.DEFAULT_REFINE_PROMPT, EARLIER),
        (chat_prompts.CHAT_TEXT_QA_PROMPT, ""),
        (chat_prompts.CHAT_TREE_SUMMARIZE_PROMPT, ""),
        (chat_prompts.CHAT_REFINE_PROMPT, EARLIER),
        (chat_prompts.CHAT_CONTENT_QA_PROMPT, ""),
        (chat_prompts.CHAT_CONTENT_TREE_SUMMARIZE_PROMPT, ""),
        (chat_prompts.CHAT_CONTENT_REFINE_PROMPT, EARLIER),
    ],
)
def test_a_prompt_of_llama_index_is_read(template: BasePromptTemplate, earlier: str) -> None:
    assert read_prompt(render(template)) == Prompt(QUESTION, CONTEXT, earlier)


@pytest.mark.parametrize(
    ("template", "earlier"),
    [
        (context.DEFAULT_CONTEXT_TEMPLATE, ""),
        (context.DEFAULT_REFINE_TEMPLATE, EARLIER),
        (condense_plus_context.DEFAULT_CONTEXT_PROMPT_TEMPLATE, ""),
        (condense_plus_context.DEFAULT_CONTEXT_REFINE_PROMPT_TEMPLATE, EARLIER),
    ],
)
def test_a_system_prompt_of_llama_indexs_chat_engines_is_read(template: str, earlier: str) -> None:
    system = template.format(context_str=CONTEXT, context_msg=CONTEXT, existing_answer=earlier)
    prompt = read_prompt([Message("system", system), Message("user", "Is it stable?")])
    assert (prompt.question, prompt.context.strip(), prompt.earlier.strip()) == ("Is it stable?", CONTEXT, earlier)


@pytest.mark.parametrize(
    "text",
    [
        "Lists are mutable.\n\nAre lists mutable?",
        "Are lists mutable?\n\nLists are mutable.",
        "Context: Lists are mutable.\nQuestion: Are lists mutable?\nAnswer:",
        "Question: Are lists mutable?\nContext: Lists are mutable.",
        "Context: Lists are mutable.\n\nAre lists mutable?",
    ],
)
def test_context_pasted_into_a_message_is_found(text: str) -> None:
    prompt = read_prompt([Message("user", text)])
    assert (prompt.question, prompt.context.strip()) == ("Are lists mutable?", "Lists are mutable.")


def test_a_follow_up_question_is_about_the_latest_context() -> None:
    earlier = [Message("user", f"{thing} are mutable.\nIs that so?") for thing in ("Lists", "Sets")]
    prompt = read_prompt([*earlier, Message("assistant", "Context: none"), Message("user", "Why?")])
    assert prompt == Prompt("Why?", "Sets are mutable.")


def test_instructions_and_answers_are_not_context() -> None:
    others = [Message("system", "You are a helpful assistant."), Message("assistant", "Lists are mutable, I believe.")]
    assert read_prompt([*others, Message("user", "Are lists mutable?")]) == Prompt("Are lists mutable?")


def test_quotes_of_the_earlier_answer_come_first_and_unchanged() -> None:
    found = find_candidates(Prompt(QUESTION, CONTEXT, EARLIER))
    assert found[0] == Sentence("It has been stable since 2.3.", "history")
    assert Sentence("Sort the list in place.", "list.sort") in found


def test_quotes_that_are_summarized_keep_their_source() -> None:
    quoted = '“This is:\n  “it” [i]” [one]\n“That is "it".” [x[0]]'
    assert find_candidates(Prompt("?", quoted)) == [
        Sentence("This is:\n  “it” [i]", "one"),
        Sentence('That is "it".', "x[0]"),
    ]


def test_the_same_sentence_is_not_quoted_twice() -> None:
    text = "a.b()\nIt is the same sentence.\n\nc.d()\nIt is the same sentence."
    assert find_candidates(Prompt("?", text)) == [Sentence("It is the same sentence.", "a.b")]


def test_the_best_three_are_quoted_most_relevant_first() -> None:
    assert answer(0.1, 0.4, 0.2, 0.3) == "\n".join(
        f"“This is sentence number {number}.” [source {number}]" for number in (1, 3, 2)
    )


def test_what_is_far_less_relevant_than_the_best_is_left_out() -> None:
    assert answer(2.0, 2.0 - MARGIN, 1.9 - MARGIN).count("“") == 2


def test_below_the_threshold_there_is_no_answer() -> None:
    assert answer(THRESHOLD - 0.01) == NO_ANSWER
    assert answer(THRESHOLD).startswith("“")


def test_without_context_or_a_sentence_in_it_there_is_no_answer() -> None:
    assert compose(Prompt("Hello!"), [], []) == NO_CONTEXT
    assert compose(Prompt("?", "-----"), [], []) == NO_ANSWER


def test_relevance_is_the_mean_of_the_sentence_alone_and_with_its_source() -> None:
    composed = compose(Prompt("?", "…"), FOUND[:2], [0.0, 1.0, 1.5, 0.0])
    assert composed.startswith("“This is sentence number 0.”")


def test_tokens_joined_are_the_text() -> None:
    text = "“For example:\n  >>> f(1)” [f]"
    assert "".join(tokenize(text)) == text


@pytest.mark.parametrize(
    ("stops", "limit", "expected"),
    [
        ([], None, ("one two three", "stop")),
        ([], 3, ("one two three", "stop")),
        ([], 2, ("one two", "length")),
        (["three", " two"], None, ("one", "stop")),
        (["one"], 5, ("", "stop")),
    ],
)
def test_an_answer_is_cut_where_the_request_asks_for_it(stops: list[str], limit: int | None, expected: object) -> None:
    pieces, reason = truncate_answer("one two three", stops, limit)
    assert ("".join(pieces), reason) == expected


def test_a_source_that_is_too_long_is_not_a_source() -> None:
    assert find_candidates(Prompt("?", f"“It is.” [{'x' * 301}]")) == []
