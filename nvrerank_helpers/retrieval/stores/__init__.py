"""Persistent stores: the hybrid retriever over LanceDB in a folder, or over PostgreSQL with pgvector."""
