"""A reranking service inside the test: every passage's logit is the number that its text is."""

import asyncio
import json
import threading

import httpx


class FakeService:
    """Records rankings and answers them; `answers` may be filled with answers to give first, one for each request.

    Lists of models are answered apart, from `models`, and recorded in `listings`.
    """

    def __init__(self):
        self.requests, self.listings = [], []
        self.answers = []
        self.models = ["listed-model", "m"]
        self.lock = threading.Lock()

    def __call__(self, request):
        request.read()
        if request.url.path.endswith(("/models", "/info")):
            self.listings.append(request)
            return self._list(request)
        with self.lock:
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, json=ranked(json.loads(request.content))) if answer is None else answer

    def _list(self, request):
        if isinstance(self.models, Exception):
            raise self.models
        if self.models is None or request.url.path.endswith("/info"):
            return httpx.Response(404)
        return httpx.Response(200, json={"object": "list", "data": [{"id": id_} for id_ in self.models]})

    async def acall(self, request):
        await asyncio.sleep(0)  # a real service gives other tasks their turn
        return self(request)

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests if request.content]

    def client(self):
        return httpx.Client(transport=httpx.MockTransport(self))

    def async_client(self):
        return httpx.AsyncClient(transport=httpx.MockTransport(self.acall))


def ranked(body):
    logits = [float(passage["text"]) for passage in body["passages"]]
    order = sorted(range(len(logits)), key=lambda index: -logits[index])
    tokens = len(logits)
    return {
        "rankings": [{"index": index, "logit": logits[index]} for index in order],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
