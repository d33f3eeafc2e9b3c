import pytest
from llama_index.core.schema import TextNode
from memory_store import Hashed

from nvrerank_helpers.lessons import persistent_stores
from nvrerank_helpers.retrieval import LanceStore, open_store


def test_the_killed_program_leaves_whole_batches(tmp_path):
    acknowledged = persistent_stores.add_and_kill(tmp_path, batches=2)
    store = open_store(tmp_path)
    assert len(store) in (acknowledged, acknowledged + 100)
    assert store.ids() == store.ids("bm25")


def test_a_program_that_ends_early_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(persistent_stores, "PROGRAM", "print(100)")
    with pytest.raises(RuntimeError, match="ended after 1 batches"):
        persistent_stores.add_and_kill(tmp_path, batches=2)


def test_the_price_has_a_row_for_each_size(tmp_path):
    store = LanceStore(tmp_path, Hashed())
    price = persistent_stores.price_of_a_change(store, [TextNode(text=f"passage {n}") for n in range(20)], [10, 20])
    assert list(price.index) == [10, 20]
    assert (price > 0).all(axis=None)
    assert len(store) == 20
