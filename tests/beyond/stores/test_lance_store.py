from datetime import timedelta

import pytest
from llama_index.core.schema import TextNode
from memory_store import Hashed

from nvrerank_helpers.stores import LanceStore, open_store

NODES = [TextNode(id_=f"n{n}", text=f"passage {n} on roads") for n in range(20)]


@pytest.fixture
def store(tmp_path):
    return LanceStore(tmp_path / "store", Hashed())


def data(store):
    return b"".join(file.read_bytes() for file in store.folder.rglob("*.lance") if file.is_file())


def test_a_folder_is_an_address(tmp_path):
    assert repr(open_store(tmp_path / "store")) == f"LanceStore({str(tmp_path / 'store')!r})"


def test_each_change_is_one_version(store):
    before = store._generation()
    store.add(NODES)
    store.change(NODES[:5])
    store.delete(["n1", "n2"])
    assert store._generation() == before + 3


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
    store.delete(["secret"])
    assert b"xylophone" in data(store)
    with pytest.warns(UserWarning, match="removes every version"):
        store.compact(timedelta(0))
    assert b"xylophone" not in data(store)
    assert store.ids() == {node.node_id for node in NODES}


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "store").touch()
    with pytest.raises(FileExistsError):
        LanceStore(tmp_path / "store")
