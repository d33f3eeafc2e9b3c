"""From a ranking request to logits: the queue, the relevance model, cross-encoders."""
