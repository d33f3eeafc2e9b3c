import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from tiny_standin import TinyStandIn

from nvrerank_helpers.connector import NVIDIARerank
from nvrerank_helpers.lessons.outages import (
    OUTAGES,
    bind_call,
    find_failure,
    run_outages,
    sample_by_popularity,
    sweep_retries,
)
from nvrerank_helpers.nim_standin import StandInControl

NODES = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in ("1", "3", "2")]


@pytest.fixture
def url():
    with TinyStandIn().serving() as url:
        yield url


@pytest.fixture
def control(url):
    return StandInControl(url)


def reranker(url, **settings):
    return NVIDIARerank("some-model", base_url=f"{url}/v1", top_n=2, **settings)


def searching(url, **settings):
    asked = reranker(url, **settings)
    return lambda query: asked.postprocess_nodes(NODES, query_str=query)


@pytest.mark.parametrize(("failure", "expected"), [({"rerank_failed": "Overloaded"}, "Overloaded"), ({}, None)])
def test_a_kept_order_is_told_by_its_mark(failure, expected):
    assert find_failure([NodeWithScore(node=TextNode(text="…", metadata=failure))]) == expected


def test_nothing_found_is_no_failure():
    assert find_failure([]) is None


def test_a_drill_tells_how_each_day_ended(url, control):
    days = {"refused": "status=410", "mended": ""}
    kept = run_outages(control, days, searching(url, on_failure="keep_order"), "query")
    assert kept["ended"].to_dict() == {"refused": "first order, marked ModelRetired", "mended": "reranked"}
    assert kept["answered"].all()


def test_a_drill_tells_what_was_raised(url, control):
    raised = run_outages(control, {"refused": "status=410"}, searching(url), "query").loc["refused"]
    assert (raised["ended"], raised["answered"], raised["fault"]) == ("ModelRetired", False, "status=410")


def test_a_drill_does_not_take_another_order_for_the_first(url, control):
    def shuffled(query):
        return searching(url, on_failure="keep_order")(query)[::-1]

    assert run_outages(control, {"refused": "status=410"}, shuffled, "q")["ended"].item().startswith("another order")


def test_each_day_keeps_the_order_within_the_deadline(url, control):
    table = run_outages(control, OUTAGES, searching(url, on_failure="keep_order", deadline=1), "query")
    *bad, mended = table["ended"]
    assert all(ended.startswith("first order, marked ") for ended in bad)
    assert mended == "reranked"


async def test_retries_send_more_and_save_some(url, control):
    async with reranker(url, max_retries=1) as asked:
        table = await sweep_retries(control, bind_call(asked, NODES, "query"), [0, 0.5, 1], calls=20)
    assert table.loc[0].to_dict() == {"answered": 1, "requests per call": 1}
    assert table.loc[1].to_dict() == {"answered": 0, "requests per call": 2}
    assert 0.5 < table.loc[0.5, "answered"] < 1


def test_popular_queries_are_drawn_more_often():
    drawn = sample_by_popularity(["first", "second", "third"], asked=600, seed=1)
    first, second, third = (drawn.count(query) for query in ("first", "second", "third"))
    assert first > second > third > 0


def test_the_same_seed_draws_the_same():
    assert sample_by_popularity(list("abcdef"), 50, seed=4) == sample_by_popularity(list("abcdef"), 50, seed=4)
