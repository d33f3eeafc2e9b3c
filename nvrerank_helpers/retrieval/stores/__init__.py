"""Persistent stores for hybrid retrieval: LanceDB in a folder, or PostgreSQL with pgvector."""
