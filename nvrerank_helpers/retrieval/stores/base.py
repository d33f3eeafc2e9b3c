"""What all stores have in common: one truth with text and vector of each node, and the words derived from it."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal, Self

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from nvrerank_helpers.retrieval.embedding import StaticEmbedding
from nvrerank_helpers.retrieval.hybrid import HybridRetriever
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot, WordFolder, WordIndex
from nvrerank_helpers.retrieval.stores.records import About, Row, check_ids, from_json, rows_of


class StoreError(Exception):
    """Something between the program and its store went wrong."""


class StoreUnavailable(StoreError):
    """The database does not answer, refuses, or lacks something."""


class StoreBusy(StoreError):
    """Another writer held the store for longer than `patience`."""


class WrongModel(StoreError):
    """The store was made with another embedding model than it is opened with."""


class Store(ABC):
    """Nodes with their vectors in a database, and a BM25 index of the same nodes beside it.

    The database alone is the truth. Each change of it is one transaction, so that a process that is killed leaves the
    state before or the state after, and it counts a generation up. The BM25 index is a derived file: it carries the
    generation that it was made from, and whoever finds that this is not the present one makes it again from the texts,
    without embedding anything. So the two always agree when they are asked.

    Readers may be many, in many processes, while one changes the store; writers wait for each other. A retriever sees
    what is committed when it is asked. The nodes of a store come back as they were, without vectors.

    Args:
        embed_model: What makes the vectors; `StaticEmbedding()` by default.

    Example:
        >>> with open_store("passages") as store:  # doctest: +SKIP
        ...     store.add(nodes)
        ...     found = store.retriever().retrieve("join two paths")
    """

    def __init__(self, embed_model: BaseEmbedding | None) -> None:
        self.embed_model = embed_model or StaticEmbedding()
        self._refreshing = Lock()
        self._words: WordIndex | None = None

    def _opened(self, about: About, now: About, folder: Path) -> None:
        """Finish opening: refuse another model, and find the BM25 index of this store in a folder for several."""
        if different := about.mismatch(now):
            raise WrongModel(
                f"{self} was made with {different}. Its vectors and those of its queries would have nothing in common: "
                f"open it with the embedding model that it was made with, or make a store elsewhere."
            )
        self._dimension = len(about.probe)
        self._folder = WordFolder(folder / about.store)

    def add(self, nodes: Sequence[BaseNode]) -> None:
        """Embed nodes and keep them, all or none.

        Args:
            nodes: Nodes whose ids the store does not have yet. Their own vectors are not used.

        Raises:
            ValueError: No nodes, an id twice or in the store already, or a node that cannot be kept.
            StoreBusy: Another writer did not finish in time.

        Example:
            >>> store.add([TextNode(id_="a", text="two roads")])  # doctest: +SKIP
        """
        self._insert(rows_of(nodes, self.embed_model, self._dimension))

    def change(self, nodes: Sequence[BaseNode]) -> None:
        """Embed nodes and put them in the place of those with the same ids, all or none.

        Args:
            nodes: Nodes whose ids the store has.

        Raises:
            ValueError: No nodes, an id twice or not in the store, or a node that cannot be kept.
            StoreBusy: Another writer did not finish in time.

        Example:
            >>> store.change([TextNode(id_="a", text="one road")])  # doctest: +SKIP
        """
        self._update(rows_of(nodes, self.embed_model, self._dimension))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove nodes, all or none.

        Args:
            ids: Ids of nodes (not of the documents that they are parts of).

        Raises:
            ValueError: No ids, an id twice, or one that is not in the store.
            StoreBusy: Another writer did not finish in time.

        Example:
            >>> store.delete(["a"])  # doctest: +SKIP
        """
        check_ids(ids)
        self._remove(ids)

    def get(self, ids: Sequence[str]) -> dict[str, BaseNode]:
        """Return nodes by id; ids that the store does not have are left out.

        Example:
            >>> store.get(["a"])["a"].text  # doctest: +SKIP
            'one road'
        """
        return {id_: from_json(node) for id_, node in self._nodes(ids)} if ids else {}

    def ids(self, side: Literal["vector", "bm25"] = "vector") -> set[str]:
        """Return the ids of all nodes, as the vectors or as the BM25 index have them.

        Example:
            >>> store.ids("vector") == store.ids("bm25")  # doctest: +SKIP
            True
        """
        return set(self._snapshot().texts) if side == "vector" else set(self._present_words().ids)

    def retriever(self, similarity_top_k: int = 50) -> HybridRetriever:
        """Return the retriever over both sides, as `build_hybrid` does.

        It stays valid: what is added, changed and deleted later, here or by another process, is seen by its next query.
        The first query after a change makes the BM25 index again.

        Args:
            similarity_top_k: How many nodes each side returns, and how many the fused list holds; at least 1.

        Returns:
            A `HybridRetriever`; `retrievers["bm25"]` and `retrievers["vector"]` can also be asked alone. Vector scores
            are cosines.

        Raises:
            ValueError: `similarity_top_k` is below 1.

        Example:
            >>> store.retriever(similarity_top_k=10).retrieve("a road")  # doctest: +SKIP
        """
        sides: dict[str, BaseRetriever] = {
            "bm25": SideRetriever(partial(self._by_words, top_k=similarity_top_k)),
            "vector": SideRetriever(partial(self._by_vector, top_k=similarity_top_k)),
        }
        return HybridRetriever(sides, similarity_top_k=similarity_top_k)

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. The store can be opened again at any time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count()

    def _by_words(self, query: QueryBundle, top_k: int) -> list[NodeWithScore]:
        found = self._present_words().search(query.query_str, top_k)
        nodes = self.get([id_ for id_, _ in found])
        return [NodeWithScore(node=nodes[id_], score=score) for id_, score in found if id_ in nodes]

    def _by_vector(self, query: QueryBundle, top_k: int) -> list[NodeWithScore]:
        vector = query.embedding or self.embed_model.get_agg_embedding_from_queries(query.embedding_strs)
        if len(vector) != self._dimension:
            raise ValueError(f"The vector of the query has {len(vector)} numbers; those of {self} {self._dimension}.")
        if not math.isfinite(size := math.hypot(*vector)) or not size:
            raise ValueError("The vector of the query has no direction: look at its text and at the embedding model.")
        found = self._nearest(vector, top_k)
        return [NodeWithScore(node=from_json(node), score=score) for node, score in found]

    def _present_words(self) -> WordIndex:
        with self._refreshing:
            generation = self._generation()
            if self._words is None or self._words.generation != generation:
                self._words = self._folder.load(generation) or self._made_words()
            return self._words

    def _made_words(self) -> WordIndex:
        words = WordIndex.over(self._snapshot())
        self._folder.save(words)
        return words

    # What an engine does. Each change is one transaction, refuses what `refuse` refuses, and counts a generation up.

    @abstractmethod
    def _insert(self, rows: Sequence[Row]) -> None: ...

    @abstractmethod
    def _update(self, rows: Sequence[Row]) -> None: ...

    @abstractmethod
    def _remove(self, ids: Sequence[str]) -> None: ...

    @abstractmethod
    def _generation(self) -> int: ...

    @abstractmethod
    def _snapshot(self) -> Snapshot: ...

    @abstractmethod
    def _nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return id and JSON of those nodes that are there."""

    @abstractmethod
    def _nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        """Return the JSON of the nearest nodes and their cosines, best first."""

    @abstractmethod
    def _count(self) -> int: ...


class SideRetriever(BaseRetriever):
    """Asks one side of a store, in a thread of its own where it is asked async.

    Args:
        find: From a query to nodes, best first; used by several threads at once.

    Example:
        >>> SideRetriever(lambda query: []).retrieve("two roads")
        []
    """

    def __init__(self, find: Callable[[QueryBundle], list[NodeWithScore]]) -> None:
        self._find = find
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._find(query_bundle)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._find, query_bundle)


def refuse(ids: Collection[str], *, because: str) -> None:
    """Refuse a change on account of some ids, if there are any.

    Example:
        >>> refuse({"b", "a"}, because="not in the store")
        Traceback (most recent call last):
        ValueError: Nothing was changed: not in the store: 'a' and 1 more.
    """
    if ids:
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        raise ValueError(f"Nothing was changed: {because}: {min(ids)!r}{more}.")
