"""The mock catalog: a local service that plays NVIDIA's catalog in lessons about failures, for every reader alike."""

from typing import Any, Self

from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.connector import DEFAULT_MODEL, NVIDIARerank, build_catalog_path
from nvrerank_helpers.nim_standin import LESSON_KEYS, StandIn, StandInControl

LESSON_KEY = "nvapi-lesson"  # any key of this form is good here, but for those that a lesson is about


def make_two_nodes() -> list[NodeWithScore]:
    """Return the smallest list that can be put into an order.

    Example:
        >>> [item.node_id for item in make_two_nodes()]
        ['cat', 'stocks']
    """
    texts = {"cat": "The cat says meow.", "stocks": "The stock market fell by two per cent."}
    return [NodeWithScore(node=TextNode(id_=name, text=text)) for name, text in texts.items()]


class MockCatalog:
    """A stand-in that plays NVIDIA's API catalog: paths by model, keys, retired models, a limit of requests.

    It ends with `close`, at the end of a `with` block, and with the interpreter.

    Args:
        per_minute: Requests that one key may make in 60 seconds; as on the catalog's free tier by default.

    Raises:
        StandInError: It cannot start.
    """

    def __init__(self, per_minute: int | None = None) -> None:
        limit = [] if per_minute is None else [f"--requests-per-minute={per_minute}"]
        self._standin = StandIn("--behaviour=catalog", "--no-kept-vectors", *limit)
        self.control = StandInControl(self._standin.base_url)
        """Its faults, and the requests that it got."""

    @property
    def failing_keys(self) -> list[str]:
        """Keys that it refuses, each for another reason: revoked, no credit, forbidden, model not for this account."""
        return list(LESSON_KEYS)

    def url(self, model: str = DEFAULT_MODEL) -> str:
        """Return the address at which it ranks with a model."""
        return self._standin.base_url.removesuffix("/v1") + build_catalog_path(model)

    def reranker(self, key: str = LESSON_KEY, model: str = DEFAULT_MODEL, **settings: Any) -> NVIDIARerank:
        """Make a reranker that asks this catalog.

        Args:
            key: What it sends as its key.
            model: Which model it asks for.
            settings: Of `NVIDIARerank`.
        """
        return NVIDIARerank(model, api_key=key, base_url=self.url(model), **settings)

    def close(self) -> None:
        """End the service; closing twice does no harm."""
        self._standin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
