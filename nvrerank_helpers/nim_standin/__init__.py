"""A local service that speaks the protocol of an NVIDIA reranking NIM, with a small real relevance model.

Importing this package pulls in the standard library only; the model and the web framework are imported by
the process that serves.
"""
