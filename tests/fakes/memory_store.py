"""A store whose database is a dict, to test the common part of all stores without a database."""

import hashlib
from contextlib import contextmanager

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from nvrerank_helpers.retrieval import Store
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import StoreMetadata


class Hashed(BaseEmbedding):
    """Gives every text its own random vector, the same one each time, and records the texts in `texts`."""

    model_name: str = "hashed"
    width: int = 16
    seed: int = 0
    _texts: list[str] = PrivateAttr(default_factory=list)

    @property
    def texts(self):
        return self._texts

    def _get_text_embedding(self, text):
        self._texts.append(text)
        digest = hashlib.sha256(f"{self.seed} {text}".encode()).digest()
        return np.random.default_rng(list(digest)).normal(size=self.width).tolist()

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


class Disk:
    """The part of a MemoryStore that outlives it: its rows, their generation, and its metadata."""

    def __init__(self):
        self.rows, self.generation, self.metadata = {}, 1, None


class MemoryStore(Store):
    def __init__(self, disk, folder, embed_model=None):
        super().__init__(embed_model or Hashed())
        self.disk = disk
        current = StoreMetadata.create(self.embed_model)
        disk.metadata = disk.metadata or current
        self._finish_opening(disk.metadata, current, folder)

    def __repr__(self):
        return "MemoryStore()"

    def close(self):
        self.closed = True

    @contextmanager
    def _transaction(self):
        yield self.disk
        self.disk.generation += 1

    def _find_ids(self, database, ids):
        return set(ids) & set(database.rows)

    def _insert(self, database, rows):
        database.rows |= {row.id: row for row in rows}

    _replace = _insert

    def _remove(self, database, ids):
        database.rows = {id_: row for id_, row in database.rows.items() if id_ not in ids}

    def _read_generation(self):
        return self.disk.generation

    def _take_snapshot(self):
        return Snapshot(self.disk.generation, {row.id: row.text for row in self.disk.rows.values()})

    def _read_nodes(self, ids):
        return [(id_, self.disk.rows[id_].node) for id_ in ids if id_ in self.disk.rows]

    def _find_nearest(self, vector, top_k):
        def cosine(row):
            return float(np.dot(row.vector, vector) / np.linalg.norm(row.vector) / np.linalg.norm(vector))

        best = sorted(self.disk.rows.values(), key=cosine, reverse=True)[:top_k]
        return [(row.node, cosine(row)) for row in best]

    def __len__(self):
        return len(self.disk.rows)
