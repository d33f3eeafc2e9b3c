"""Reranking services inside the test, for httpx and httpx2: a passage's logit is the number that its text is.

The `/rerank` services answer as they did in November 2026.
"""

import asyncio
import json
import math
import threading

import httpx


class FakeService:
    """A NIM. It records rankings in `requests` and questions for its models in `listings`.

    Attributes:
        answers: What to answer first, one for each ranking: a response, an exception, a function of the
            request, or None for the usual one.
        models: What is listed: ids, None for a 404, or a response or an exception for every such request.
        score: Makes the logit of a text.
    """

    address = "http://nim:1976/v1"
    served = ("listed-model", "m")

    def __init__(self, library=httpx, score=float):
        self.library, self.score = library, score
        self.requests, self.listings, self.answers = [], [], []
        self.models = list(self.served)
        self.lock = threading.Lock()

    def __call__(self, request):
        request.read()
        if request.url.path.endswith(("/models", "/info")):
            self.listings.append(request)
            answer = self.list(request.url.path) if isinstance(self.models, list) else self.models
        else:
            with self.lock:
                self.requests.append(request)
                answer = self.answers.pop(0) if self.answers else None
            answer = answer or self.rank
            if callable(answer):
                answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return self.library.Response(404) if answer is None else answer

    async def acall(self, request):
        await asyncio.sleep(0)  # a real service gives other tasks their turn
        return self(request)

    def list(self, path):
        return self.ok({"object": "list", "data": [{"id": id_} for id_ in self.models]}) if path != "/info" else None

    def rank(self, request):
        logits = [self.score(passage.get("text", "")) for passage in json.loads(request.content)["passages"]]
        usage = {"prompt_tokens": len(logits), "total_tokens": len(logits)}
        return self.ok({"rankings": self.sort(logits, "logit"), "usage": usage})

    def ok(self, content):
        return self.library.Response(200, json=content)

    @staticmethod
    def sort(scores, name):
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return [{"index": index, name: scores[index]} for index in order]

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests if request.content]

    def client(self, **arguments):
        return self.library.Client(transport=self.library.MockTransport(self), **arguments)

    def async_client(self, **arguments):
        return self.library.AsyncClient(transport=self.library.MockTransport(self.acall), **arguments)

    def clients(self, **arguments):
        return {"http_client": self.client(**arguments), "async_http_client": self.async_client(**arguments)}


class RerankService(FakeService):
    """One with Cohere's shape, which lists its models as OpenAI does."""

    address, served = "http://service.example/v1/rerank", ("some/reranker",)
    listed_at, owner, facts = "/v1/models", "openai", {}

    def list(self, path):
        entry = {"id": self.models[0], "object": "model", "created": 1, "owned_by": self.owner}
        return self.ok({"object": "list", "data": [entry | self.facts]}) if path == self.listed_at else None

    def rank(self, request):
        body = json.loads(request.content)
        scores = [self.transform(self.score(text), body) for text in body["documents"]]
        results = self.sort(scores, "relevance_score")[: body.get("top_n") or None]
        return self.ok({"id": "1", "results": results, "usage": {"total_tokens": 7}})

    def transform(self, logit, _):
        return 1 / (1 + math.exp(-logit))


class Vllm(RerankService):
    owner, facts = "vllm", {"max_model_len": 512, "root": "x", "parent": None}


class Infinity(RerankService):
    address, listed_at = "http://service.example/rerank", "/models"
    owner, facts = "infinity", {"backend": "torch", "stats": {"queue_fraction": 0.0}}

    def transform(self, logit, body):
        return logit if body.get("raw_scores") else super().transform(logit, body)


class LiteLlm(RerankService):
    def transform(self, logit, _):
        return logit  # what a NIM behind it gave


class Cohere(RerankService):
    address = "http://service.example/v2/rerank"

    def list(self, path):
        chat = {"name": "command", "endpoints": ["chat"], "finetuned": False}
        rerank = {"name": self.models[0], "endpoints": ["rerank"], "finetuned": False}
        return self.ok({"models": [chat, rerank]}) if path == self.listed_at else None


class Tei(RerankService):
    address, limit = "http://service.example/rerank", 32

    def list(self, path):
        facts = {"model_id": self.models[0], "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}}}}
        facts |= {"max_client_batch_size": self.limit, "auto_truncate": False}
        return self.ok(facts) if path == "/info" else None

    def rank(self, request):
        body = json.loads(request.content)
        if "texts" not in body:
            error = (
                "Failed to deserialize the JSON body into the target type: missing field `texts` at line 1 column 90"
            )
            return self.library.Response(422, text=error)
        if (count := len(body["texts"])) > self.limit:
            error = f"batch size {count} > maximum allowed batch size {self.limit}"
            return self.library.Response(413, json={"error": error, "error_type": "Validation"})
        logits = [self.score(text) for text in body["texts"]]
        scores = logits if body.get("raw_scores") else [self.transform(logit, body) for logit in logits]
        return self.ok(self.sort(scores, "score"))


class SilentTei(Tei):
    """One that does not say what it is before it is asked."""

    def list(self, path):
        return self.library.Response(401)


RERANK_SERVICES = [Vllm, Infinity, LiteLlm, Cohere, Tei]
