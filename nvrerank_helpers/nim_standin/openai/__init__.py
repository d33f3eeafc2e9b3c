"""The OpenAI-style routes: chat answered from the passages, and embeddings."""
