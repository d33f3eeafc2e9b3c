"""A store whose database is a dict, to test what all stores have in common without a database."""

import hashlib

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from nvrerank_helpers.retrieval import Store
from nvrerank_helpers.retrieval.stores.base import refuse
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import About


class Hashed(BaseEmbedding):
    """Every text has a random vector of its own, and the same one each time; counts the texts that it embeds."""

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
    """What outlives a MemoryStore: its rows, their generation, and what it was made with."""

    def __init__(self):
        self.rows, self.generation, self.about = {}, 1, None


class MemoryStore(Store):
    def __init__(self, disk, folder, embed_model=None):
        super().__init__(embed_model or Hashed())
        self.disk = disk
        now = About.new(self.embed_model)
        disk.about = disk.about or now
        self._opened(disk.about, now, folder)

    def __repr__(self):
        return "MemoryStore()"

    def close(self):
        self.closed = True

    def _insert(self, rows):
        refuse({row.id for row in rows} & set(self.disk.rows), because="in the store already")
        self._update_rows({row.id: row for row in rows})

    def _update(self, rows):
        refuse({row.id for row in rows} - set(self.disk.rows), because="not in the store")
        self._update_rows({row.id: row for row in rows})

    def _update_rows(self, rows):
        self.disk.rows |= rows
        self.disk.generation += 1

    def _remove(self, ids):
        refuse(set(ids) - set(self.disk.rows), because="not in the store")
        self.disk.rows = {id_: row for id_, row in self.disk.rows.items() if id_ not in ids}
        self.disk.generation += 1

    def _generation(self):
        return self.disk.generation

    def _snapshot(self):
        return Snapshot(self.disk.generation, {row.id: row.text for row in self.disk.rows.values()})

    def _nodes(self, ids):
        return [(id_, self.disk.rows[id_].node) for id_ in ids if id_ in self.disk.rows]

    def _nearest(self, vector, top_k):
        def cosine(row):
            return float(np.dot(row.vector, vector) / np.linalg.norm(row.vector) / np.linalg.norm(vector))

        best = sorted(self.disk.rows.values(), key=cosine, reverse=True)[:top_k]
        return [(row.node, cosine(row)) for row in best]

    def _count(self):
        return len(self.disk.rows)
