import pytest

from nvrerank_helpers.retrieval import MatchingBM25Retriever
from nvrerank_helpers.stores.words import Snapshot, WordFolder, WordIndex

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


def test_an_index_of_another_bm25s_is_not_used(tmp_path, monkeypatch):
    WordFolder(tmp_path).save(index(3))
    monkeypatch.setattr("nvrerank_helpers.stores.words.version", lambda name: "99")
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


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nvrerank_helpers.stores.words.Path.rename", killed)
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
