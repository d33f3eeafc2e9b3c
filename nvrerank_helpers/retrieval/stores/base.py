"""What all stores have in common: a database with text and vector of each node, and a BM25 index derived from it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from nvrerank_helpers.retrieval.embedding import StaticEmbedding
from nvrerank_helpers.retrieval.hybrid import HybridRetriever
from nvrerank_helpers.retrieval.stores.bm25_index import BM25Index, BM25IndexCache, Snapshot
from nvrerank_helpers.retrieval.stores.records import (
    Row,
    StoreMetadata,
    check_ids,
    from_json,
    has_direction,
    make_rows,
)


class StoreError(Exception):
    """Something went wrong between the program and its store."""


class StoreUnavailable(StoreError):
    """The database does not answer, refuses, or lacks something."""


class StoreBusy(StoreError):
    """Another writer held the store for longer than `patience`."""


class WrongModel(StoreError):
    """The store was made with another embedding model than it is opened with."""


class Store(ABC):
    """Nodes with their vectors in a database, and a BM25 index of the same nodes.

    The database is the source of truth. Each change is one transaction, so a process that is killed leaves the state
    before the change or the one after it, and each change increases a generation number. The BM25 index is a file that
    carries the generation it was built from. A reader that finds another generation in the database rebuilds the index
    from the texts, without embedding anything, so both always agree.

    Many processes may read while one changes the store; writers wait for each other. A retriever sees what is
    committed when it is asked. Nodes come back unchanged, without vectors.

    Args:
        embed_model: What makes the vectors; `StaticEmbedding()` by default.
    """

    def __init__(self, embed_model: BaseEmbedding | None) -> None:
        self.embed_model = embed_model or StaticEmbedding()
        self._refreshing = Lock()
        self._bm25_index: BM25Index | None = None

    def _finish_opening(self, recorded: StoreMetadata, current: StoreMetadata, folder: Path) -> None:
        """Reject another model, and locate the BM25 index of this store in a folder for those of several."""
        if mismatch := recorded.describe_mismatch(current):
            raise WrongModel(
                f"{self} was made with {mismatch}. Its vectors and those of its queries would have nothing in common: "
                f"open it with the embedding model that it was made with, or make a store elsewhere."
            )
        self._dimension = len(recorded.probe)
        self._cache = BM25IndexCache(folder / recorded.store)

    def add(self, nodes: Sequence[BaseNode]) -> None:
        """Embed new nodes and store all of them or none. Vectors that the nodes carry are ignored.

        Raises:
            ValueError: No nodes, an id twice or already in the store, or a node that cannot be stored.
            StoreBusy: Another writer did not finish in time.
        """
        rows = make_rows(nodes, self.embed_model, self._dimension)
        with self._transaction() as database:
            existing = self._find_ids(database, [row.id for row in rows])
            _reject(existing, "in the store already, use change() for them")
            self._insert(database, rows)

    def change(self, nodes: Sequence[BaseNode]) -> None:
        """Embed nodes and replace those with the same ids, all of them or none.

        Raises:
            ValueError: No nodes, an id twice or not in the store, or a node that cannot be stored.
            StoreBusy: Another writer did not finish in time.
        """
        rows = make_rows(nodes, self.embed_model, self._dimension)
        ids = [row.id for row in rows]
        with self._transaction() as database:
            _reject(set(ids) - self._find_ids(database, ids), "not in the store, use add() for them")
            self._replace(database, rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove nodes by their own ids (not those of their source documents), all of them or none.

        Raises:
            ValueError: No ids, an id twice, or one that is not in the store.
            StoreBusy: Another writer did not finish in time.
        """
        check_ids(ids)
        with self._transaction() as database:
            _reject(set(ids) - self._find_ids(database, ids), "not in the store")
            self._remove(database, ids)

    def get(self, ids: Sequence[str]) -> dict[str, BaseNode]:
        """Return nodes by id; ids that the store does not have are left out."""
        return {id_: from_json(node) for id_, node in self._read_nodes(ids)} if ids else {}

    def ids(self, side: Literal["vector", "bm25"] = "vector") -> set[str]:
        """Return the ids of all nodes, as the database or as the BM25 index has them."""
        return set(self._take_snapshot().texts) if side == "vector" else set(self._current_bm25_index().ids)

    def retriever(self, similarity_top_k: int = 50) -> HybridRetriever:
        """Return a retriever over both sides, as `build_hybrid` does.

        It stays valid: its next query sees later changes, made here or by another process. The first query after a
        change rebuilds the BM25 index.

        Args:
            similarity_top_k: How many nodes each side and the fused list return, at least 1.

        Returns:
            A `HybridRetriever` whose `retrievers["bm25"]` and `retrievers["vector"]` can also be used alone. Vector
            scores are cosines.
        """
        sides: dict[str, BaseRetriever] = {
            "bm25": CallableRetriever(partial(self._search_bm25, top_k=similarity_top_k)),
            "vector": CallableRetriever(partial(self._search_vectors, top_k=similarity_top_k)),
        }
        return HybridRetriever(sides, similarity_top_k=similarity_top_k)

    @abstractmethod
    def close(self) -> None:
        """Close connections. The store can be opened again at any time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def __len__(self) -> int: ...

    def _search_bm25(self, query: QueryBundle, top_k: int) -> list[NodeWithScore]:
        found = self._current_bm25_index().search(query.query_str, top_k)
        nodes = self.get([id_ for id_, _ in found])
        return [NodeWithScore(node=nodes[id_], score=score) for id_, score in found if id_ in nodes]

    def _search_vectors(self, query: QueryBundle, top_k: int) -> list[NodeWithScore]:
        vector = query.embedding or self.embed_model.get_agg_embedding_from_queries(query.embedding_strs)
        if len(vector) != self._dimension:
            raise ValueError(f"The vector of the query has {len(vector)} numbers; those of {self} {self._dimension}.")
        if not has_direction(vector):
            raise ValueError("The vector of the query has no direction: look at its text and at the embedding model.")
        found = self._find_nearest(vector, top_k)
        return [NodeWithScore(node=from_json(node), score=score) for node, score in found]

    def _current_bm25_index(self) -> BM25Index:
        with self._refreshing:
            generation = self._read_generation()
            if self._bm25_index is None or self._bm25_index.generation != generation:
                self._bm25_index = self._cache.load(generation) or self._rebuild_bm25_index()
            return self._bm25_index

    def _rebuild_bm25_index(self) -> BM25Index:
        index = BM25Index.build(self._take_snapshot())
        self._cache.save(index)
        return index

    # What an engine implements.

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Any]:
        """Begin a change as the only writer; it increases the generation unless the body raises an error."""

    @abstractmethod
    def _find_ids(self, database: Any, ids: Sequence[str]) -> set[str]:
        """Return those of these ids that are in the store."""

    @abstractmethod
    def _insert(self, database: Any, rows: Sequence[Row]) -> None: ...

    @abstractmethod
    def _replace(self, database: Any, rows: Sequence[Row]) -> None: ...

    @abstractmethod
    def _remove(self, database: Any, ids: Sequence[str]) -> None: ...

    @abstractmethod
    def _read_generation(self) -> int: ...

    @abstractmethod
    def _take_snapshot(self) -> Snapshot: ...

    @abstractmethod
    def _read_nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return id and JSON of those nodes that are in the store."""

    @abstractmethod
    def _find_nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        """Return the JSON of the nearest nodes and their cosines, best first."""


class CallableRetriever(BaseRetriever):
    """Retrieves with a thread-safe function from a query to nodes; asynchronous calls run it in a thread."""

    def __init__(self, find: Callable[[QueryBundle], list[NodeWithScore]]) -> None:
        self._find = find
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._find, query_bundle)


def _reject(ids: Collection[str], problem: str) -> None:
    if ids:
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        raise ValueError(f"Nothing was changed: {problem}: {min(ids)!r}{more}.")
