import asyncio
import sys

import pytest
from llama_index.core.schema import QueryBundle, TextNode
from memory_store import Disk, Hashed, MemoryStore

from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.retrieval import WrongModel, open_store
from nvrerank_helpers.retrieval.stores import opening
from nvrerank_helpers.retrieval.stores.bm25_index import BM25Index, BM25IndexCache

NODES = [
    TextNode(id_="roads", text="two roads diverged in a yellow wood"),
    TextNode(id_="file", text="read the lines of a file sequentially"),
    TextNode(id_="sort", text="put the elements of a list in order"),
]


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def store(disk, tmp_path):
    store = MemoryStore(disk, tmp_path)
    store.add(NODES)
    return store


def ids(found):
    return [node.node_id for node in found]


def search_bm25(store, query):
    return ids(store.retriever().retrievers["bm25"].retrieve(query))


def test_both_sides_have_what_was_added(store):
    assert store.ids("vector") == store.ids("bm25") == {"roads", "file", "sort"}


def test_both_sides_find_a_node(store):
    sides = store.retriever().retrievers
    assert ids(sides["bm25"].retrieve("yellow wood")) == ["roads"]
    assert ids(sides["vector"].retrieve(NODES[1].text))[0] == "file"


def test_a_retriever_sees_later_changes(store):
    bm25 = store.retriever().retrievers["bm25"]
    bm25.retrieve("yellow")
    store.change([TextNode(id_="roads", text="one motorway")])
    assert (ids(bm25.retrieve("yellow")), ids(bm25.retrieve("motorway"))) == ([], ["roads"])


def test_a_deleted_node_is_found_by_neither_side(store):
    store.delete(["roads"])
    assert "roads" not in ids(store.retriever().retrieve("yellow wood"))


def test_a_store_that_is_opened_again_uses_the_index_on_disk(store, disk, tmp_path, monkeypatch):
    assert search_bm25(store, "yellow") == ["roads"]
    monkeypatch.setattr(BM25Index, "build", None)
    assert search_bm25(MemoryStore(disk, tmp_path), "yellow") == ["roads"]


def test_an_index_of_another_generation_is_rebuilt_without_embedding(store, disk, tmp_path):
    store.ids("bm25")
    disk.rows.pop("file")  # another process was killed between its commit and its index
    disk.generation += 1
    again = MemoryStore(disk, tmp_path)
    asked = len(again.embed_model.texts)
    assert again.ids("bm25") == {"roads", "sort"}
    assert len(again.embed_model.texts) == asked == 1


def test_both_sides_agree_after_the_program_was_killed_before_its_index_was_saved(store, disk, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BM25IndexCache, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.ids("bm25")
    again = MemoryStore(disk, tmp_path)
    assert again.ids("bm25") == again.ids("vector") == {"roads", "file", "sort"}


@pytest.mark.parametrize("change", ["add", "change"])
def test_no_nodes_and_ids_that_occur_twice_are_refused(store, change):
    with pytest.raises(ValueError, match="at least one node"):
        getattr(store, change)([])
    with pytest.raises(ValueError, match="'roads'"):
        getattr(store, change)([NODES[0], NODES[0]])


def test_a_node_that_is_in_the_store_cannot_be_added(store):
    with pytest.raises(
        ValueError, match=r"Nothing was changed: in the store already, use change\(\) for them: 'file'\."
    ):
        store.add([TextNode(id_="new", text="new"), NODES[1]])
    assert len(store) == 3


def test_a_node_that_is_not_in_the_store_can_neither_be_changed_nor_deleted(store):
    with pytest.raises(ValueError, match="'new'"):
        store.change([TextNode(id_="new", text="new")])
    with pytest.raises(ValueError, match="'new'"):
        store.delete(["roads", "new"])
    assert len(store) == 3


@pytest.mark.parametrize("wrong", [[], ["roads", "roads"]])
def test_no_ids_and_ids_that_occur_twice_are_refused(store, wrong):
    with pytest.raises(ValueError, match=r"at least one|more than once"):
        store.delete(wrong)


def test_get_leaves_out_ids_that_are_not_in_the_store(store):
    assert (list(store.get(["sort", "new"])), store.get([])) == (["sort"], {})


def test_an_empty_store_finds_nothing(disk, tmp_path):
    assert MemoryStore(disk, tmp_path).retriever().retrieve("anything") == []


def test_a_store_without_words_still_compares_vectors(disk, tmp_path):
    store = MemoryStore(disk, tmp_path)
    store.add([TextNode(id_="the", text="the of")])
    assert ids(store.retriever().retrieve("of")) == ["the"]


@pytest.mark.parametrize("other", [{"model_name": "large"}, {"width": 8}, {"seed": 1}])
def test_another_model_is_refused(store, disk, tmp_path, other):
    with pytest.raises(WrongModel, match=r"the model 'hashed'|vectors of 16 numbers|another version"):
        MemoryStore(disk, tmp_path, Hashed(**other))


def test_a_query_vector_of_another_width_is_refused(store):
    with pytest.raises(ValueError, match="2 numbers"):
        store.retriever().retrieve(QueryBundle("road", embedding=[1.0, 0.0]))


@pytest.mark.parametrize("number", [0.0, float("nan")])
def test_a_query_vector_without_direction_is_refused(store, number):
    with pytest.raises(ValueError, match="no direction"):
        store.retriever().retrieve(QueryBundle("road", embedding=[number] * 16))


def test_the_vector_of_a_query_is_used(store):
    vector = Hashed().get_text_embedding(NODES[2].text)
    side = store.retriever().retrievers["vector"]
    assert ids(side.retrieve(QueryBundle("something else", embedding=vector)))[0] == "sort"


async def test_async_finds_the_same_many_times_at_once(store):
    hybrid = store.retriever()
    found = await asyncio.gather(*(hybrid.aretrieve("a yellow list") for _ in range(8)))
    assert all(ids(one) == ids(hybrid.retrieve("a yellow list")) for one in found)


def test_the_context_manager_closes(store):
    with store as opened:
        assert opened is store
    assert store.closed


def test_a_top_k_below_one_is_refused(store):
    with pytest.raises(ValueError, match="at least 1"):
        store.retriever(similarity_top_k=0)


@pytest.mark.parametrize(("address", "extra"), [("folder", "lancedb"), ("postgresql://host/db", "postgres")])
def test_a_missing_extra_is_named(monkeypatch, tmp_path, address, extra):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    monkeypatch.setitem(sys.modules, "pgvector", None)
    with pytest.raises(ExtraNotInstalled, match=rf"extra `{extra}`"):
        open_store(address)


@pytest.mark.parametrize(
    ("address", "store"),
    [
        *(
            (address, "PostgresStore")
            for address in ("postgresql://h/d", "postgres://h/d", "postgresql+psycopg2://h/d")
        ),
        ("postgres-notes", "LanceStore"),
    ],
)
def test_the_address_selects_the_store(monkeypatch, address, store):
    for name in ("PostgresStore", "LanceStore"):
        monkeypatch.setattr(opening, name, lambda address, embed_model, name=name: name)
    assert open_store(address) == store


@pytest.mark.parametrize("address", ["Postgresql://me:s3cret@h/d", "mysql+pymysql://me:s3cret@h/d", "s3://s3cret/d"])
def test_an_address_of_another_kind_makes_no_folder_and_is_not_repeated(monkeypatch, tmp_path, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="No store for this kind of address") as caught:
        open_store(address)
    assert "s3cret" not in str(caught.value)
    assert not list(tmp_path.iterdir())
