"""The BM25 index of a store: derived from its texts, kept on disk, and told apart by what it was made from."""

import logging
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import bm25s
import numpy as np
import Stemmer
from filelock import FileLock

logger = logging.getLogger(__name__)

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

    The folder of an index is named for the generation and the bm25s that made it. It is written under another name and
    then renamed, so that a folder with that name is always whole, whenever the process that writes it is killed.

    Args:
        folder: Where the indexes of this store go; made where it is missing.

    Example:
        >>> folder = WordFolder(Path("words"))  # doctest: +SKIP
        >>> folder.load(7) or folder.save(WordIndex.over(snapshot))  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = FileLock(folder / "lock")

    def load(self, generation: int) -> WordIndex | None:
        """Return the index of a generation, or None where there is none or where it is damaged."""
        path = self._path(generation)
        try:
            bm25 = bm25s.BM25.load(path, load_corpus=True, show_progress=False)
            rows, bm25.corpus = bm25.corpus, None
            return WordIndex(generation, bm25, [row["text"] for row in rows])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError) as error:
            logger.warning("The BM25 index %s is damaged (%s) and is made again.", path, error)
            return None

    def save(self, index: WordIndex) -> None:
        """Put an index in the place of all older ones; one without words is not kept, being made in no time."""
        with self._lock:
            kept = [folder for folder in self._folder.iterdir() if folder.is_dir()]
            if index.bm25 is None or any(_generation(folder) > index.generation for folder in kept):
                return
            new = Path(mkdtemp(prefix="unfinished-", dir=self._folder))
            index.bm25.save(new, corpus=index.ids, show_progress=False)
            for file in new.iterdir():
                _to_disk(file)
            for old in kept:
                shutil.rmtree(old, ignore_errors=True)
            new.rename(self._path(index.generation))

    def _path(self, generation: int) -> Path:
        return self._folder / f"generation-{generation}-bm25s-{version('bm25s')}"


def _generation(folder: Path) -> int:
    _, _, rest = folder.name.partition("generation-")
    return int(rest.partition("-")[0] or 0)


def _to_disk(file: Path) -> None:
    """Wait until a file is on the disk itself: after a power cut, a renamed folder must not hold empty files."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _words(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    stemmer = Stemmer.Stemmer("english")  # one a call: it must not be used by two threads at once
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, token_pattern=TOKENS, show_progress=False)
