from pathlib import Path

import pytest
from filelock import FileLock

from nvrerank_helpers.retrieval.hybrid import MatchingBM25Retriever
from nvrerank_helpers.retrieval.stores import bm25_index
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot, WordFolder, WordIndex

TEXTS = {"roads": "two roads diverged in a yellow wood", "file": "read a file", "woods": "yellow woods, yellow leaves"}


def index(generation=1, texts=TEXTS):
    return WordIndex.over(Snapshot(generation, texts))


def folders(path):
    return sorted(folder.name.partition("-bm25s")[0] for folder in path.iterdir() if folder.is_dir())


def test_words_find_as_llamaindex_does():
    from llama_index.core.schema import TextNode

    nodes = [TextNode(id_=id_, text=text) for id_, text in sorted(TEXTS.items())]
    expected = MatchingBM25Retriever(nodes=nodes, similarity_top_k=3).retrieve("The yellow woods!")
    assert index().search("The yellow woods!", 50) == [(found.node_id, found.score) for found in expected]


def test_a_query_without_known_words_finds_nothing():
    assert index().search("the zebra", 5) == index().search("", 5) == []


@pytest.mark.parametrize("texts", [{}, {"the": "the of"}, {"a": "!"}])
def test_texts_without_words_make_an_index_that_finds_nothing(texts):
    assert index(texts=texts).search("the zebra", 5) == []


def test_a_saved_index_finds_the_same(tmp_path):
    WordFolder(tmp_path).save(index(3))
    assert WordFolder(tmp_path).load(3).search("yellow woods", 5) == index().search("yellow woods", 5)


def test_another_generation_is_not_there(tmp_path):
    WordFolder(tmp_path).save(index(3))
    assert WordFolder(tmp_path).load(4) is None


@pytest.mark.parametrize("library", ["bm25s", "PyStemmer"])
def test_an_index_of_another_version_of_a_library_is_not_used(tmp_path, monkeypatch, library):
    WordFolder(tmp_path).save(index(3))
    there = bm25_index.version
    monkeypatch.setattr(bm25_index, "version", lambda name: "99" if name == library else there(name))
    assert WordFolder(tmp_path).load(3) is None


def test_a_newer_index_replaces_older_ones_and_what_killed_processes_left(tmp_path):
    folder = WordFolder(tmp_path)
    (tmp_path / "unfinished-abc").mkdir()
    folder.save(index(3))
    folder.save(index(4))
    assert folders(tmp_path) == ["generation-4"]


def test_an_older_index_does_not_replace_a_newer_one(tmp_path):
    folder = WordFolder(tmp_path)
    folder.save(index(10))
    folder.save(index(9))
    assert folders(tmp_path) == ["generation-10"]


def test_an_index_that_is_there_is_left_to_those_who_read_it(tmp_path):
    folder = WordFolder(tmp_path)
    folder.save(index(3))
    before = list(tmp_path.glob("*/*"))
    folder.save(index(3))
    assert list(tmp_path.glob("*/*")) == before


def test_a_folder_that_replaces_another_has_a_name_of_its_own(tmp_path):
    folder = WordFolder(tmp_path)
    folder.save(index(3))
    [old] = tmp_path.glob("generation-*")
    (old / "vocab.index.json").unlink()
    folder.save(index(3))
    [new] = tmp_path.glob("generation-*")
    assert new != old
    assert folder.load(3).search("file", 5)


def test_an_index_without_words_leaves_none_of_the_words_before(tmp_path):
    folder = WordFolder(tmp_path)
    folder.save(index(3))
    folder.save(index(4, texts={}))
    assert folders(tmp_path) == []


def test_a_folder_that_somebody_else_made_does_no_harm(tmp_path):
    (tmp_path / "generation-next").mkdir()
    WordFolder(tmp_path).save(index(3))
    assert WordFolder(tmp_path).load(3)


def test_where_nothing_can_be_written_a_warning_says_so(tmp_path, caplog):
    (tmp_path / "file").touch()
    folder = WordFolder(tmp_path / "file" / "words")
    folder.save(index(3))
    assert "cannot be kept" in caplog.text
    assert folder.load(3) is None


def test_a_process_that_hangs_while_it_writes_is_not_waited_for_for_ever(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(bm25_index, "PATIENCE", 0.01)
    with FileLock(tmp_path / "lock"):
        WordFolder(tmp_path).save(index(3))
    assert "cannot be kept" in caplog.text


def test_an_index_stays_where_it_is_when_the_program_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = WordFolder(Path("words"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.save(index(3))
    assert WordFolder(tmp_path / "words").load(3)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_text(file.read_text().partition("\n")[0])])
def test_an_index_whose_ids_are_lost_is_damaged(tmp_path, caplog, harm):
    folder = WordFolder(tmp_path)
    folder.save(index(3))
    harm(next(tmp_path.glob("*/corpus.jsonl")))
    assert folder.load(3) is None
    assert "damaged" in caplog.text


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nvrerank_helpers.retrieval.stores.bm25_index.Path.rename", killed)
    folder = WordFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        folder.save(index(3))
    assert folder.load(3) is None


@pytest.mark.parametrize("name", ["data.csc.index.npy", "vocab.index.json", "corpus.jsonl"])
def test_a_damaged_index_is_told_and_made_again(tmp_path, caplog, name):
    folder = WordFolder(tmp_path)
    folder.save(index(3))
    file = next(tmp_path.glob(f"*/{name}"))
    file.write_bytes(file.read_bytes()[:-8])
    assert folder.load(3) is None
    assert "damaged" in caplog.text
    folder.save(index(3))
    assert folder.load(3).search("file", 5)
