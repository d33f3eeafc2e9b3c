from datetime import timedelta
from unittest.mock import Mock

import lancedb
import pytest
from lancedb.table import LanceTable
from llama_index.core.schema import TextNode
from memory_store import Hashed

from nvrerank_helpers.retrieval import LanceStore, StoreUnavailable, open_store
from nvrerank_helpers.retrieval.stores.bm25_index import BM25IndexCache

NODES = [TextNode(id_=f"n{n}", text=f"passage {n} on roads") for n in range(20)]


@pytest.fixture
def store(tmp_path):
    return LanceStore(tmp_path / "store", Hashed())


def data(store):
    return b"".join(file.read_bytes() for file in store.folder.rglob("*") if file.is_file())


def test_a_folder_is_an_address(tmp_path):
    assert repr(open_store(tmp_path / "store")) == f"LanceStore({str(tmp_path / 'store')!r})"


def test_each_change_is_one_version(store):
    before = store._read_generation()
    store.add(NODES)
    store.change(NODES[:5])
    store.delete(["n1", "n2"])
    assert store._read_generation() == before + 3


def test_compacting_joins_the_files_of_many_small_changes(store):
    for node in NODES:
        store.add([node])
    before = len(list(store.folder.rglob("data/*.lance")))
    with pytest.warns(UserWarning, match="removes every version"):
        store.compact(timedelta(0))
    assert len(list(store.folder.rglob("data/*.lance"))) < before == len(NODES)
    assert store.ids() == store.ids("bm25") == {node.node_id for node in NODES}


def test_a_deleted_text_is_gone_from_the_disk_after_compacting(store):
    store.add([*NODES, TextNode(id_="secret", text="xylophone")])
    assert store.ids("bm25")  # builds the index, which contains the word too
    store.delete(["secret"])
    assert b"xylophon" in data(store)
    with pytest.warns(UserWarning, match="removes every version"):
        store.compact(timedelta(0))
    assert b"xylophon" not in data(store)
    assert store.ids() == {node.node_id for node in NODES}


@pytest.mark.parametrize("left", ["", "_transactions", "_versions"])
def test_a_folder_can_be_used_after_a_program_was_killed_while_it_made_the_store(tmp_path, left):
    (tmp_path / "passages.lance" / left).mkdir(parents=True)
    LanceStore(tmp_path, Hashed()).add(NODES)
    assert len(LanceStore(tmp_path, Hashed())) == len(NODES)


def test_a_folder_of_another_program_is_refused(tmp_path):
    lancedb.connect(tmp_path).create_table("passages", [{"a": 1}])
    with pytest.raises(StoreUnavailable, match="is not a store: choose another folder"):
        LanceStore(tmp_path, Hashed())


def test_a_reader_needs_no_write_access(store, monkeypatch):
    store.add(NODES)
    monkeypatch.setattr(LanceStore, "_transaction", None)
    monkeypatch.setattr(BM25IndexCache, "_replace", Mock(side_effect=PermissionError))
    assert LanceStore(store.folder, Hashed()).ids("bm25") == {node.node_id for node in NODES}


def test_a_store_stays_where_it_is_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LanceStore("store", Hashed())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.add(NODES)
    assert store.ids() == store.ids("bm25")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_instead_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "store").touch()
    with pytest.raises(FileExistsError):
        LanceStore(tmp_path / "store")


def test_a_snapshot_is_of_one_moment(store, monkeypatch):
    store.add(NODES[:1])
    before, search = store._take_snapshot(), LanceTable.search

    def commit_in_between(table):
        monkeypatch.setattr(LanceTable, "search", search)
        store.add(NODES[1:])
        return table.search()

    monkeypatch.setattr(LanceTable, "search", commit_in_between)
    assert store._take_snapshot() == before
