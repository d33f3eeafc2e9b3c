"""What a retriever finds becomes the input of a bulk job."""

from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.lessons import build_run_table


def found(*texts):
    return [NodeWithScore(node=TextNode(id_=f"id-{text}", text=text), score=1.5) for text in texts]


def test_each_node_found_is_a_row_in_the_order_of_its_query():
    table = build_run_table({"1": "a", "2": "b"}, {"a": found("x", "y"), "b": found("x")}.get)
    assert table.to_dict("list") == {
        "qid": ["1", "1", "2"],
        "query": ["a", "a", "b"],
        "docno": ["id-x", "id-y", "id-x"],
        "text": ["x", "y", "x"],
        "rank": [1, 2, 1],
        "score": [1.5, 1.5, 1.5],
    }


def test_a_query_that_finds_nothing_has_no_row():
    assert build_run_table({"1": "a"}, lambda _: []).empty
