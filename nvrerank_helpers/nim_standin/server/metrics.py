"""The counters of the service, in Prometheus's format.

The names are ours: those of a reranking NIM are not published.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin.scoring.jobs import ScoreResult

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one service, separate from those of any other in the process."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("nim_requests_total", "Requests answered", ("route", "status"), registry=registry)
        self.in_flight = Gauge("nim_requests_in_flight", "Requests being answered now", registry=registry)
        self.passages = Counter("nim_passages_total", "Passages scored", registry=registry)
        self.tokens = Counter("nim_tokens_total", "Tokens of the pairs scored", registry=registry)
        self.queue = Histogram(
            "nim_queue_seconds", "Seconds a request waited to be scored", buckets=SECONDS, registry=registry
        )
        self.inference = Histogram(
            "nim_inference_seconds", "Seconds it took to score a request", buckets=SECONDS, registry=registry
        )

    def count_scores(self, result: ScoreResult) -> None:
        """Count a request that was scored."""
        self.passages.inc(len(result.scores.raw))
        self.tokens.inc(int(result.scores.tokens.sum()))
        self.queue.observe(result.queue_seconds)
        self.inference.observe(result.inference_seconds)

    def text(self) -> str:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self._registry).decode()


class RequestCounter:
    """Pure ASGI middleware that counts requests by status and route: the paths in `routes`, the catalog's, `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"  # the client disconnected, or the connection was reset

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, note_status)
        finally:
            self._metrics.requests.labels(self._route(scope["path"]), status).inc()

    def _route(self, path: str) -> str:
        if path.startswith("/v1/retrieval/") and path.endswith("/reranking"):
            return "/v1/retrieval/{model}/reranking"
        return path if path in self._routes else "other"
