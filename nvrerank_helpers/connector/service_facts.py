"""What a client has learned about its service: models, dialect, limits, kind of scores."""

import asyncio
from collections.abc import Sequence

from .dialects import COHERE, TEI, Listing, is_tei_refusal, parse_listing
from .endpoints import Endpoint
from .errors import InvalidAnswer, NotFound, RerankError, excerpt
from .exchange import Exchange
from .protocol import NIM, Dialect
from .redaction import printable

LISTING_WAIT = 5.0  # seconds that a first call gives a service to say which models it has; at most half of the call


class ServiceFacts:
    """Facts about one service, learned with the first call and from its answers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._listing: Listing | None = None
        self._looked = not endpoint.listing_urls
        self._search: asyncio.Task[Listing | None] | None = None
        self._sends_logits = False
        self.dialect: Dialect = COHERE if endpoint.dialect == "rerank" else NIM

    async def list_models(self, exchange: Exchange, max_retries: int | None = None) -> Listing:
        """Ask every URL that may list models; raises the error of the first if none of them does."""
        asked = [self._read_listing(exchange, url, max_retries) for url in self._endpoint.listing_urls]
        found = await asyncio.gather(*asked, return_exceptions=True)
        for listing in found:
            if isinstance(listing, Listing):
                if self._endpoint.dialect == "rerank":
                    self.dialect = listing.dialect or self.dialect
                self._listing = listing
                return listing
        raise next(error for error in found if isinstance(error, BaseException))

    @staticmethod
    async def _read_listing(exchange: Exchange, url: str, max_retries: int | None) -> Listing:
        body = await exchange.get(url, max_retries)
        listing = parse_listing(body)
        if listing is None:
            raise InvalidAnswer(f"The service's list of models cannot be read: {excerpt(body)}", url=url)
        if not listing.model_ids:
            hint = "Name the model with `model`, or restart the service."
            raise InvalidAnswer("The service serves no model.", hint=hint, url=url)
        return listing

    async def look(self, exchange: Exchange, model: str) -> None:
        """Look at the service once, before the first ranking; raises `NotFound` if it has a list without the model."""
        if self._looked:
            return
        listing = self._listing or await self._search_together(exchange)
        if listing and model not in listing.model_ids:
            self._listing = self._search = None  # the next call looks again
            others = ", ".join(printable(name, 200) for name in listing.model_ids[:5])
            hint = f"Name one of its models with model=, or leave `model` out to get the first: {others}."
            raise NotFound(
                f"The service does not serve {printable(model, 200)}", hint=hint, url=self._endpoint.listing_urls[0]
            )
        self._looked = True

    async def _search_together(self, exchange: Exchange) -> Listing | None:
        """Look for a list of models, once for all calls that begin together."""
        loop, search = asyncio.get_running_loop(), self._search
        if search is None or search.get_loop() is not loop:
            search = self._search = loop.create_task(self._find_listing(exchange))
        await asyncio.wait({search}, timeout=min(LISTING_WAIT, exchange.left / 2))
        search.cancel()  # which does nothing to one that is done
        return search.result() if search.done() and not search.cancelled() else None

    async def _find_listing(self, exchange: Exchange) -> Listing | None:
        try:
            return await self.list_models(exchange, max_retries=0)
        except (RerankError, TimeoutError):  # the call itself notices that its time is over
            return None

    def learn(self, error: RerankError, spoken: Dialect) -> bool:
        """Return whether a refusal showed that the service has another dialect, so that it is worth asking again."""
        if spoken is COHERE and is_tei_refusal(error.status or 0, error.detail or ""):
            self.dialect = TEI
            return True
        return False

    def batch_size(self, most: int) -> int:
        """Return how many passages one request may contain."""
        limit = (self._listing and self._listing.max_passages) or self.dialect.max_passages
        return min(most, limit) if limit else most

    def are_probabilities(self, scores: Sequence[float]) -> bool:
        """Return whether scores are from 0 to 1; a service that has once sent another number sends logits.

        vLLM's and Cohere's are. LiteLLM passes on what the service behind it sends, under the same name.
        """
        if self.dialect.logits:
            return False
        self._sends_logits = self._sends_logits or any(not 0 <= score <= 1 for score in scores)
        return bool(scores) and not self._sends_logits
