"""The BM25 index of a store: built from its texts, and cached on disk by the generation it was built from."""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

import bm25s
import numpy as np
import Stemmer
from filelock import FileLock

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds to wait for another process that saves its index
TOKENS = r"(?u)\b\w\w+\b"  # the pattern of LlamaIndex's BM25Retriever, so that both find the same


class Snapshot(NamedTuple):
    """All ids and texts of a store at one moment.

    Attributes:
        generation: The number of that moment, which grows with every change.
        texts: Passage id to text.
    """

    generation: int
    texts: dict[str, str]


class BM25Index(NamedTuple):
    """A BM25 index in memory.

    Attributes:
        generation: The generation of the store that it was built from.
        bm25: The index, or None if no text contains a word.
        ids: The passage ids in the order of the index.
    """

    generation: int
    bm25: bm25s.BM25 | None
    ids: list[str]

    @classmethod
    def build(cls, snapshot: Snapshot) -> Self:
        """Index the texts of a store, in the order of their ids."""
        ids = sorted(snapshot.texts)
        bm25 = bm25s.BM25()
        tokens = _tokenize([snapshot.texts[id_] for id_ in ids])
        if not any(tokens.ids):
            return cls(snapshot.generation, None, ids)
        with np.errstate(invalid="ignore"):
            bm25.index(tokens, show_progress=False)
        return cls(snapshot.generation, bm25, ids)

    def search(self, query: str, top_k: int) -> list[tuple[str, float]]:
        """Return ids and scores of at most `top_k` passages that share a word with the query, best first."""
        if self.bm25 is None:
            return []
        found, scores = self.bm25.retrieve(
            _tokenize([query]), k=min(top_k, len(self.ids)), show_progress=False, n_threads=0
        )
        return [(self.ids[n], float(score)) for n, score in zip(found[0], scores[0], strict=True) if score]


class BM25IndexCache:
    """Saves the newest BM25 index of one store in a folder, which is made when needed.

    The folder of an index is named for the generation and the libraries that built it. It is written under another
    name and then renamed, so it is complete even if the process is killed while writing. A name is never used twice:
    whoever reads a folder while it is replaced misses files, and never mixes those of two indexes, which number their
    words differently.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()  # the program may change its working directory

    def load(self, generation: int) -> BM25Index | None:
        """Return the index of a generation, or None if there is none or it is damaged."""
        for path in self._folder.glob(f"{_make_name(generation)}-*"):
            try:
                return _read_index(path, generation)
            except FileNotFoundError:  # another process is replacing it
                continue
            except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
                logger.warning("The BM25 index %s is damaged (%s) and is rebuilt.", path, error)
        return None

    def save(self, index: BM25Index) -> None:
        """Replace all older indexes by this one; an index without words is not saved, because it is built at once.

        If the folder cannot be written, only a warning says so: the index in memory works as well.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "lock", timeout=PATIENCE):
                self._replace(index)
        except OSError as error:  # filelock's Timeout is one too
            logger.warning("The BM25 index cannot be saved in %s (%s): it will be rebuilt.", self._folder, error)

    def _replace(self, index: BM25Index) -> None:
        existing = [folder for folder in self._folder.iterdir() if folder.is_dir()]
        if any(_parse_generation(folder) > index.generation for folder in existing) or self.load(index.generation):
            return
        if index.bm25 is not None:
            name = f"{_make_name(index.generation)}-{uuid4().hex}"
            unfinished = self._folder / f"unfinished-{name}"
            index.bm25.save(unfinished, corpus=index.ids, show_progress=False)
            for file in unfinished.iterdir():
                _flush_to_disk(file)
            unfinished.rename(self._folder / name)
        for old in existing:
            shutil.rmtree(old, ignore_errors=True)


def _make_name(generation: int) -> str:
    """Name an index by all it depends on: other versions of the libraries split, stem or store words differently."""
    return f"generation-{generation}-bm25s-{version('bm25s')}-stemmer-{version('PyStemmer')}"


def _parse_generation(folder: Path) -> int:
    match = re.match(r"generation-(\d+)-", folder.name)
    return int(match[1]) if match else 0


def _read_index(path: Path, generation: int) -> BM25Index:
    bm25 = bm25s.BM25.load(path, load_corpus=True, show_progress=False)
    rows, bm25.corpus = bm25.corpus, None
    ids = [row["text"] for row in rows]
    if len(ids) != bm25.scores["num_docs"]:
        raise ValueError(f"it has {len(ids)} ids for {bm25.scores['num_docs']} passages")
    return BM25Index(generation, bm25, ids)


def _flush_to_disk(file: Path) -> None:
    """Wait until a file is on the disk: after a power cut, a renamed folder must not contain empty files."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _tokenize(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    stemmer = Stemmer.Stemmer("english")  # one per call, because two threads must not share it
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, token_pattern=TOKENS, show_progress=False)
