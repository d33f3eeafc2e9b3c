from pathlib import Path

import pytest
from filelock import FileLock
from llama_index.core.schema import TextNode

from nvrerank_helpers.retrieval import MatchingBM25Retriever
from nvrerank_helpers.retrieval.stores import bm25_index
from nvrerank_helpers.retrieval.stores.bm25_index import BM25Index, BM25IndexCache, Snapshot

TEXTS = {"roads": "two roads diverged in a yellow wood", "file": "read a file", "woods": "yellow woods, yellow leaves"}


def build(generation=1, texts=TEXTS):
    return BM25Index.build(Snapshot(generation, texts))


def cached(path):
    return sorted(folder.name.partition("-bm25s")[0] for folder in path.iterdir() if folder.is_dir())


@pytest.fixture
def cache(tmp_path):
    """A cache that has the index of generation 3."""
    cache = BM25IndexCache(tmp_path)
    cache.save(build(3))
    return cache


def test_an_index_finds_the_same_as_llamaindex():
    nodes = [TextNode(id_=id_, text=text) for id_, text in sorted(TEXTS.items())]
    expected = MatchingBM25Retriever(nodes=nodes, similarity_top_k=3).retrieve("The yellow woods!")
    assert build().search("The yellow woods!", 50) == [(found.node_id, found.score) for found in expected]


@pytest.mark.parametrize("query", ["the zebra", ""])
def test_a_query_without_known_words_finds_nothing(query):
    assert build().search(query, 5) == []


@pytest.mark.parametrize("texts", [{}, {"the": "the of"}, {"a": "!"}])
def test_texts_without_words_make_an_index_that_finds_nothing(texts):
    assert build(texts=texts).search("the zebra", 5) == []


def test_a_saved_index_finds_the_same(cache, tmp_path):
    assert BM25IndexCache(tmp_path).load(3).search("yellow woods", 5) == build().search("yellow woods", 5)


def test_the_index_of_another_generation_is_not_used(cache):
    assert cache.load(4) is None


@pytest.mark.parametrize("library", ["bm25s", "PyStemmer"])
def test_the_index_of_another_version_of_a_library_is_not_used(cache, monkeypatch, library):
    version = bm25_index.version
    monkeypatch.setattr(bm25_index, "version", lambda name: "99" if name == library else version(name))
    assert cache.load(3) is None


def test_a_newer_index_replaces_older_ones_and_what_killed_processes_left(cache, tmp_path):
    (tmp_path / "unfinished-abc").mkdir()
    cache.save(build(4))
    assert cached(tmp_path) == ["generation-4"]


def test_an_older_index_does_not_replace_a_newer_one(cache, tmp_path):
    cache.save(build(10))
    cache.save(build(9))
    assert cached(tmp_path) == ["generation-10"]


def test_an_index_that_is_there_is_left_to_its_readers(cache, tmp_path):
    before = list(tmp_path.glob("*/*"))
    cache.save(build(3))
    assert list(tmp_path.glob("*/*")) == before


def test_an_index_that_replaces_another_has_its_own_name(cache, tmp_path):
    [old] = tmp_path.glob("generation-*")
    (old / "vocab.index.json").unlink()
    cache.save(build(3))
    [new] = tmp_path.glob("generation-*")
    assert new != old


def test_an_index_without_words_leaves_none_of_the_words_before(cache, tmp_path):
    cache.save(build(4, texts={}))
    assert cached(tmp_path) == []


def test_a_folder_that_another_program_made_does_no_harm(tmp_path):
    (tmp_path / "generation-next").mkdir()
    cache = BM25IndexCache(tmp_path)
    cache.save(build(3))
    assert cache.load(3)


def test_a_folder_that_cannot_be_written_gives_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = BM25IndexCache(tmp_path / "file" / "indexes")
    cache.save(build(3))
    assert "cannot be saved" in caplog.text
    assert cache.load(3) is None


def test_a_process_that_hangs_while_it_saves_is_not_waited_for_forever(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(bm25_index, "PATIENCE", 0.01)
    with FileLock(tmp_path / "lock"):
        BM25IndexCache(tmp_path).save(build(3))
    assert "cannot be saved" in caplog.text


def test_an_index_stays_where_it_is_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = BM25IndexCache(Path("indexes"))
    monkeypatch.chdir("/")
    cache.save(build(3))
    assert BM25IndexCache(tmp_path / "indexes").load(3)


def test_a_process_killed_while_it_saves_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bm25_index.Path, "rename", interrupt)
    cache = BM25IndexCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.save(build(3))
    assert cache.load(3) is None


@pytest.mark.parametrize("name", ["data.csc.index.npy", "vocab.index.json", "corpus.jsonl"])
def test_a_damaged_index_gives_a_warning_and_is_replaced(cache, tmp_path, caplog, name):
    file = next(tmp_path.glob(f"*/{name}"))
    file.write_bytes(file.read_bytes()[:-8])
    assert cache.load(3) is None
    assert "damaged" in caplog.text
    cache.save(build(3))
    assert cache.load(3).search("file", 5)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text(file.read_text().partition("\n")[0])])
def test_an_index_that_lost_ids_is_damaged(cache, tmp_path, caplog, damage):
    damage(next(tmp_path.glob("*/corpus.jsonl")))
    assert cache.load(3) is None
    assert "damaged" in caplog.text
