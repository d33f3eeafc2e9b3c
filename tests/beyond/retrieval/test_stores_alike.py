"""The contract of all stores, over LanceDB and over PostgreSQL."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.schema import ImageDocument, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from memory_store import Hashed

from nvrerank_helpers.pydocs import load_passages
from nvrerank_helpers.retrieval import StoreBusy, WrongModel, build_hybrid
from nvrerank_helpers.retrieval.stores.bm25_index import BM25Index

QUERIES = ["read the lines of a file", "join two paths", "What is a closure?", "os.path"]
RICH = TextNode(
    id_="a'b\"c;--é\\",
    text="two roads diverged",
    metadata={"page": 3, "tags": ["x", None, 1.5], "deep": {"é": True}, "title": "Poem"},
    excluded_embed_metadata_keys=["page", "tags", "deep"],
    excluded_llm_metadata_keys=["tags"],
    relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole", metadata={"a": 1})},
    start_char_idx=4,
)


def ids(found):
    return [node.node_id for node in found]


def scores(found):
    return [node.score for node in found]


def make_nodes(*names, word="passage"):
    return [TextNode(id_=name, text=f"{word} {name}") for name in names]


@pytest.fixture(scope="module")
def passages():
    return sorted(load_passages()[::25], key=lambda node: node.node_id)


def test_the_results_equal_those_of_build_hybrid(open_again, passages):
    store = open_again()
    store.add(passages[::2])
    store.add(passages[1::2])
    expected, found = build_hybrid(passages, 20), store.retriever(20)
    for query in QUERIES:
        for side in ("bm25", "vector"):
            one, other = (hybrid.retrievers[side].retrieve(query) for hybrid in (expected, found))
            assert ids(one) == ids(other)
            assert scores(one) == pytest.approx(scores(other), abs=1e-5)
        assert ids(expected.retrieve(query)) == ids(found.retrieve(query))


def test_a_node_comes_back_unchanged_from_both_sides(open_again):
    picture = ImageNode(id_="picture", text="a snowy wood", image="aGVsbG8=", metadata={"other": "keys"})
    kept = [RICH, picture, ImageDocument(id_="whole", text="evening", image="aGVsbG8=")]
    store = open_again()
    store.add(kept)
    assert open_again().get(ids(kept)) == {node.node_id: node for node in kept}
    for side in store.retriever().retrievers.values():
        found = {node.node_id: node.node for node in side.retrieve("two snowy roads Poem evening wood")}
        assert all(found[node.node_id] == node for node in kept)


def test_opening_again_embeds_no_text_and_indexes_no_word(open_again, passages, monkeypatch):
    store = open_again(Hashed())
    store.add(passages)
    assert store.ids("bm25")
    model = Hashed()
    monkeypatch.setattr(BM25Index, "build", None)
    again = open_again(model)
    again.retriever().retrieve("join two paths")
    assert len(model.texts) == 2  # the probe at opening and the query
    assert len(again) == len(passages)


def test_the_changes_of_one_program_are_seen_by_another(open_again):
    one, other = open_again(Hashed()), open_again(Hashed())
    hybrid = other.retriever()
    assert hybrid.retrieve("anything") == []
    one.add(make_nodes("a", "b", "c"))
    assert set(ids(hybrid.retrieve("passage"))) == other.ids("bm25") == other.ids() == {"a", "b", "c"}
    one.change(make_nodes("b", word="zebra"))
    one.delete(["a"])
    assert ids(hybrid.retrievers["bm25"].retrieve("zebra passage")) in (["b", "c"], ["c", "b"])
    assert hybrid.retrievers["vector"].retrieve("zebra b")[0].score == pytest.approx(1)
    assert other.ids("bm25") == other.ids() == {"b", "c"}


def test_a_refused_change_changes_nothing(open_again):
    store = open_again(Hashed())
    store.add(make_nodes("a", "b"))
    before = store.get(["a", "b", "c"])
    for refused in (
        lambda: store.add(make_nodes("c", "a", word="other")),
        lambda: store.change(make_nodes("a", "c", word="other")),
        lambda: store.delete(["a", "c"]),
    ):
        with pytest.raises(ValueError, match="Nothing was changed"):
            refused()
    assert store.get(["a", "b", "c"]) == before


def test_hostile_ids_do_no_harm(open_again):
    names = ["x') OR true --", "'; DROP TABLE passages; --", "%s", ":id", "\\", '"', "ü" * 400]
    store = open_again(Hashed())
    store.add(make_nodes(*names, "kept"))
    assert store.ids() == {*names, "kept"}
    store.change(make_nodes(names[0], word="changed"))
    assert store.get(names)[names[0]].text.startswith("changed")
    store.delete(names)
    assert store.ids() == store.ids("bm25") == {"kept"}


def test_a_store_may_become_empty_and_be_filled_again(open_again):
    store = open_again(Hashed())
    store.add(make_nodes("a"))
    store.delete(["a"])
    assert store.retriever().retrieve("passage") == []
    store.add(make_nodes("a"))
    assert ids(store.retriever().retrieve("passage")) == ["a"]


async def test_async_finds_the_same_many_times_at_once(open_again, passages):
    store = open_again()
    store.add(passages)
    hybrid = store.retriever()
    found = await asyncio.gather(*(hybrid.aretrieve(query) for query in QUERIES * 3))
    assert [ids(one) for one in found] == [ids(hybrid.retrieve(query)) for query in QUERIES * 3]


@pytest.mark.parametrize("other", [{"model_name": "large"}, {"width": 8}, {"seed": 1}])
def test_another_model_is_refused_at_opening(open_again, other):
    open_again(Hashed()).close()
    with pytest.raises(WrongModel, match="open it with the embedding model that it was made with"):
        open_again(Hashed(**other))


def test_writers_wait_for_each_other_and_lose_nothing(open_again):
    def write(writer):
        store = open_again(Hashed())
        for batch in range(5):
            store.add(make_nodes(*(f"{writer} {batch} {n}" for n in range(4))))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    store = open_again(Hashed())
    assert len(store) == len(store.ids("bm25")) == 4 * 5 * 4


def test_of_two_who_add_the_same_ids_one_is_refused(open_again):
    def write(store):
        try:
            store.add(make_nodes("a", "b"))
        except ValueError:
            return "refused"
        return "added"

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(write, [open_again(Hashed()), open_again(Hashed())]))
    assert sorted(said) == ["added", "refused"]
    assert len(open_again(Hashed())) == 2


@pytest.mark.parametrize("patience", [0, 0.05])
def test_a_writer_that_waits_too_long_gets_an_error(open_again, patience):
    one, other = open_again(Hashed()), open_again(Hashed(), patience=patience)
    with one._transaction(), pytest.raises(StoreBusy, match="wait until it is done"):
        other.add(make_nodes("a"))
    other.add(make_nodes("a"))
    assert len(one) == 1


def test_readers_do_not_wait_for_a_writer(open_again):
    one, other = open_again(Hashed()), open_again(Hashed())
    one.add(make_nodes("a"))
    with one._transaction():
        assert ids(other.retriever().retrieve("passage")) == ["a"]
