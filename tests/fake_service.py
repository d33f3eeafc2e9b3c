"""A reranking service inside the test: every passage's logit is the number that its text is."""

import asyncio
import json
import threading

import httpx


class FakeService:
    """Records requests and answers them; `answer` may be replaced by a list of answers to give one after the other."""

    def __init__(self):
        self.requests = []
        self.answers = []
        self.lock = threading.Lock()

    def __call__(self, request):
        request.read()
        with self.lock:
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"object": "list", "data": [{"id": "listed-model"}]})
        return httpx.Response(200, json=ranked(json.loads(request.content)))

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
