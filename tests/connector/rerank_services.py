"""Services with a `/rerank` route, as they answered in November 2026; a document's logit is the number that it is."""

import asyncio
import json
import math

import httpx


class RerankService:
    """Records requests and answers them in the words of one product."""

    path = "/v1/rerank"
    model = "some/reranker"
    limit = None

    def __init__(self):
        self.bodies, self.listings = [], []
        self.refusals = []  # answers to give first

    def __call__(self, request):
        if request.method == "GET":
            self.listings.append(request.url.path)
            return self.list(request.url.path)
        body = json.loads(request.content)
        self.bodies.append(body)
        return self.refusals.pop(0) if self.refusals else self.rank(body)

    @property
    def address(self):
        return f"http://service.example{self.path}"

    def clients(self):
        return {
            "http_client": httpx.Client(transport=httpx.MockTransport(self)),
            "async_http_client": httpx.AsyncClient(transport=httpx.MockTransport(self.acall)),
        }

    async def acall(self, request):
        await asyncio.sleep(0)  # a real service gives other tasks their turn
        return self(request)

    def list(self, path):
        if path != "/v1/models":
            return httpx.Response(404, json={"detail": "Not Found"})
        entry = {"id": self.model, "object": "model", "created": 1, "owned_by": self.owner}
        return httpx.Response(200, json={"object": "list", "data": [entry | self.facts]})

    owner, facts = "openai", {}

    def rank(self, body):
        scores = [self.score(float(text), body) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n") or None]
        results = [{"index": index, "relevance_score": scores[index]} for index in order]
        return httpx.Response(200, json={"id": "1", "results": results, "usage": {"total_tokens": 7}})

    def score(self, logit, _):
        return 1 / (1 + math.exp(-logit))


class Vllm(RerankService):
    owner, facts = "vllm", {"max_model_len": 512, "root": "x", "parent": None}


class Infinity(RerankService):
    path, owner, facts = "/rerank", "infinity", {"backend": "torch", "stats": {"queue_fraction": 0.0}}

    def list(self, path):
        return super().list("/v1/models" if path == "/models" else path)

    def score(self, logit, body):
        return logit if body.get("raw_scores") else super().score(logit, body)


class LiteLlm(RerankService):
    def score(self, logit, _):
        return logit  # what a NIM behind it gave


class Cohere(RerankService):
    path = "/v2/rerank"

    def list(self, path):
        if path != "/v1/models":
            return httpx.Response(404, json={"message": "not found"})
        chat = {"name": "command", "endpoints": ["chat"], "finetuned": False}
        rerank = {"name": self.model, "endpoints": ["rerank"], "finetuned": False}
        return httpx.Response(200, json={"models": [chat, rerank]})


class Tei(RerankService):
    path, limit = "/rerank", 32

    def list(self, path):
        if path != "/info":
            return httpx.Response(404)
        facts = {"model_id": self.model, "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}}}}
        return httpx.Response(200, json=facts | {"max_client_batch_size": self.limit, "auto_truncate": False})

    def rank(self, body):
        if "texts" not in body:
            words = (
                "Failed to deserialize the JSON body into the target type: missing field `texts` at line 1 column 90"
            )
            return httpx.Response(422, text=words)
        if len(body["texts"]) > self.limit:
            words = f"batch size {len(body['texts'])} > maximum allowed batch size {self.limit}"
            return httpx.Response(413, json={"error": words, "error_type": "Validation"})
        logits = [float(text) for text in body["texts"]]
        scores = logits if body.get("raw_scores") else [1 / (1 + math.exp(-logit)) for logit in logits]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return httpx.Response(200, json=[{"index": index, "score": scores[index]} for index in order])


class SilentTei(Tei):
    """One that does not say what it is before it is asked."""

    def list(self, path):
        return httpx.Response(401)


SERVICES = [Vllm, Infinity, LiteLlm, Cohere, Tei]
