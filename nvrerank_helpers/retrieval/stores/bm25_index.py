"""The BM25 index of a store: derived from its texts, kept on disk, and told apart by what it was made from."""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import bm25s
import numpy as np
import Stemmer
from filelock import FileLock

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds to wait for another process that keeps its index
TOKENS = r"(?u)\b\w\w+\b"  # as LlamaIndex's BM25Retriever has it, so that both find the same


class Snapshot(NamedTuple):
    """All that a store held at one moment.

    Attributes:
        generation: The number of that moment; it grows with every change.
        texts: Passage id to text.
    """

    generation: int
    texts: dict[str, str]


class WordIndex(NamedTuple):
    """A BM25 index in memory.

    Attributes:
        generation: The generation of the store from which it was made.
        bm25: The index, or None where no text holds a word.
        ids: The passages in the order of the index.
    """

    generation: int
    bm25: bm25s.BM25 | None
    ids: list[str]

    @classmethod
    def over(cls, snapshot: Snapshot) -> "WordIndex":
        """Index the texts of a store, in the order of their ids.

        Example:
            >>> index = WordIndex.over(Snapshot(1, {"a": "two roads", "b": "yellow wood"}))
            >>> [id_ for id_, score in index.search("a road", 5)]
            ['a']
        """
        ids = sorted(snapshot.texts)
        bm25 = bm25s.BM25()
        words = _words([snapshot.texts[id_] for id_ in ids])
        if not any(words.ids):
            return cls(snapshot.generation, None, ids)
        with np.errstate(invalid="ignore"):
            bm25.index(words, show_progress=False)
        return cls(snapshot.generation, bm25, ids)

    def search(self, query: str, top_k: int) -> list[tuple[str, float]]:
        """Return ids and scores of at most `top_k` passages that share a word with the query, best first."""
        if self.bm25 is None:
            return []
        found, scores = self.bm25.retrieve(
            _words([query]), k=min(top_k, len(self.ids)), show_progress=False, n_threads=0
        )
        return [(self.ids[n], float(score)) for n, score in zip(found[0], scores[0], strict=True) if score]


class WordFolder:
    """Keeps the newest BM25 index of one store on disk.

    The folder of an index is named for the generation and the libraries that made it. It is written under another name
    and then renamed, so that a folder with that name is always whole, whenever the process that writes it is killed. A
    name is never used twice: who reads a folder that is replaced meanwhile misses files, and never gets those of two
    indexes, whose words are numbered differently.

    Args:
        folder: Where the indexes of this store go; made when the first one is kept.

    Example:
        >>> folder = WordFolder(Path("words"))  # doctest: +SKIP
        >>> folder.load(7) or folder.save(WordIndex.over(snapshot))  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()  # the program may go to another folder

    def load(self, generation: int) -> WordIndex | None:
        """Return the index of a generation, or None where there is none or where it is damaged."""
        for path in self._folder.glob(f"{_name(generation)}-*"):
            try:
                return _read(path, generation)
            except FileNotFoundError:  # replaced by another process at this moment
                continue
            except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
                logger.warning("The BM25 index %s is damaged (%s) and is made again.", path, error)
        return None

    def save(self, index: WordIndex) -> None:
        """Put an index in the place of all older ones; one without words is not kept, being made in no time.

        Where nothing can be written, a warning says so: an index in memory serves as well.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "lock", timeout=PATIENCE):
                self._replace(index)
        except OSError as error:  # which filelock's Timeout is, too
            logger.warning("The BM25 index cannot be kept in %s (%s): it will be made again.", self._folder, error)

    def _replace(self, index: WordIndex) -> None:
        kept = [folder for folder in self._folder.iterdir() if folder.is_dir()]
        if any(_generation(folder) > index.generation for folder in kept) or self.load(index.generation):
            return
        if index.bm25 is not None:
            name = f"{_name(index.generation)}-{uuid4().hex}"
            new = self._folder / f"unfinished-{name}"
            index.bm25.save(new, corpus=index.ids, show_progress=False)
            for file in new.iterdir():
                _to_disk(file)
            new.rename(self._folder / name)
        for old in kept:
            shutil.rmtree(old, ignore_errors=True)


def _name(generation: int) -> str:
    """Name what an index depends on: other versions cut, stem or store words in other ways."""
    return f"generation-{generation}-bm25s-{version('bm25s')}-stemmer-{version('PyStemmer')}"


def _generation(folder: Path) -> int:
    named = re.match(r"generation-(\d+)-", folder.name)
    return int(named[1]) if named else 0


def _read(path: Path, generation: int) -> WordIndex:
    bm25 = bm25s.BM25.load(path, load_corpus=True, show_progress=False)
    rows, bm25.corpus = bm25.corpus, None
    ids = [row["text"] for row in rows]
    if len(ids) != bm25.scores["num_docs"]:
        raise ValueError(f"it has {len(ids)} ids for {bm25.scores['num_docs']} passages")
    return WordIndex(generation, bm25, ids)


def _to_disk(file: Path) -> None:
    """Wait until a file is on the disk itself: after a power cut, a renamed folder must not hold empty files."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _words(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    stemmer = Stemmer.Stemmer("english")  # one a call: it must not be used by two threads at once
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, token_pattern=TOKENS, show_progress=False)
