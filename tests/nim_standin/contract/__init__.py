"""One contract for every client of a reranking NIM, over real sockets."""
