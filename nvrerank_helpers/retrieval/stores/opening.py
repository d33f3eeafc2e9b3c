"""Opening a store by its address: a folder for LanceDB, or the URL of a PostgreSQL database."""

import re
from pathlib import Path

from llama_index.core.base.embeddings.base import BaseEmbedding

from nvrerank_helpers.retrieval.stores.base import Store
from nvrerank_helpers.retrieval.stores.lance import LanceStore
from nvrerank_helpers.retrieval.stores.postgres import PostgresStore


def open_store(address: str | Path, embed_model: BaseEmbedding | None = None) -> Store:
    """Open the store at an address, or make one if there is none yet.

    Args:
        address: A folder for LanceDB, or `postgresql://user:password@host:port/database` for PostgreSQL.
        embed_model: What makes the vectors; `StaticEmbedding()` by default. A store opens only with the model that it
            was made with.

    Raises:
        ExtraNotInstalled: The extra `lancedb` or `postgres` is missing.
        ValueError: The address is that of another kind of database.
        StoreUnavailable: The database does not answer, has no pgvector, or contains something else.
        WrongModel: The store was made with another embedding model.
    """
    if isinstance(address, str) and address.startswith(("postgresql:", "postgresql+", "postgres:")):
        return PostgresStore(address, embed_model=embed_model)
    if re.match(r"\w+(\+\w+)?://", str(address)):  # a folder of that name would have the password in it
        raise ValueError("No store for this kind of address: give a folder, or postgresql://…, in small letters.")
    return LanceStore(address, embed_model=embed_model)
