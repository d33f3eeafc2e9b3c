"""NVIDIA NIM reranking for LlamaIndex."""
