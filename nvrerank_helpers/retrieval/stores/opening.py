"""Stores that last: the hybrid retriever over LanceDB in a folder, or over PostgreSQL with pgvector.

One line decides which:

    store = open_store("passages")                               # LanceDB in the folder `passages`
    store = open_store("postgresql://user:password@host/name")   # PostgreSQL with pgvector

Both have the same methods, and their `retriever()` is the same `HybridRetriever` that `build_hybrid` gives.
"""

import re
from pathlib import Path

from llama_index.core.base.embeddings.base import BaseEmbedding

from nvrerank_helpers.retrieval.stores.base import Store, StoreBusy, StoreError, StoreUnavailable, WrongModel
from nvrerank_helpers.retrieval.stores.lance import LanceStore
from nvrerank_helpers.retrieval.stores.postgres import PostgresStore

__all__ = [
    "LanceStore",
    "PostgresStore",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreUnavailable",
    "WrongModel",
    "open_store",
]


def open_store(address: str | Path, embed_model: BaseEmbedding | None = None) -> Store:
    """Open the store at an address, or make it where there is none yet.

    Args:
        address: A folder for LanceDB, or `postgresql://user:password@host:port/database` for PostgreSQL.
        embed_model: What makes the vectors; `StaticEmbedding()` by default. A store opens with the model it was
            made with, and with no other.

    Returns:
        A `LanceStore` or a `PostgresStore`.

    Raises:
        ExtraNotInstalled: The extra `lancedb` or `postgres` is missing.
        ValueError: The address is that of another database.
        StoreUnavailable: The database does not answer, has no pgvector, or holds something else.
        WrongModel: The store was made with another embedding model.

    Example:
        >>> store = open_store("passages")  # doctest: +SKIP
        >>> store.add(load_passages())  # doctest: +SKIP
        >>> store.retriever().retrieve("join two paths")[0].node_id  # doctest: +SKIP
        'os.path.join'
    """
    if isinstance(address, str) and address.startswith(("postgresql:", "postgresql+", "postgres:")):
        return PostgresStore(address, embed_model=embed_model)
    if re.match(r"\w+(\+\w+)?://", str(address)):  # as a folder it would be made, with the password in its name
        raise ValueError("No store for this kind of address: give a folder, or postgresql://…, in small letters.")
    return LanceStore(address, embed_model=embed_model)
