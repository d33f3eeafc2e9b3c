"""Chat completions and embeddings, in the protocol of OpenAI."""
