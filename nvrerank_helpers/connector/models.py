"""The reranking models of NVIDIA's API catalog, as data with dates and sources."""

import warnings
from dataclasses import dataclass
from typing import Literal

from .errors import ModelRetired

CATALOG_ADDRESS = "https://ai.api.nvidia.com"
MAX_PASSAGES = 512  # per request; NIM 2.0 documentation, confirmed by users of 1.x
DEFAULT_MODEL = "nvidia/llama-nemotron-rerank-vl-1b-v2"


@dataclass(frozen=True)
class HostedModel:
    """A reranking model of NVIDIA's API catalog. What isn't known is None.

    Example:
        A model of your own, or a correction, is one line:

        >>> CATALOG["me/my-model"] = HostedModel("me/my-model", "live", address="https://ai.api.nvidia.com/v1/mine")
        >>> CATALOG.pop("me/my-model").url
        'https://ai.api.nvidia.com/v1/mine'
    """

    id: str  # the `model` of a request
    status: Literal["live", "unknown", "retired"] = "unknown"  # seen working, or answers 410 or 404
    token_limit: int | None = None  # of query and passage together
    images: bool | None = None  # whether passages may be images
    source: str = ""  # of the status
    end_of_life: str | None = None  # as YYYY-MM-DD
    replacement: str | None = None  # id of the model to use instead
    address: str | None = None  # the endpoint's whole URL, where it doesn't follow the naming rule
    passage_limit: int = MAX_PASSAGES  # in one request

    @property
    def url(self) -> str:
        """The endpoint's whole URL; nothing is appended to it."""
        return self.address or CATALOG_ADDRESS + build_catalog_path(self.id)


# Statuses as they were known in November 2026. `unknown`: neither seen working nor known to be gone.
# fmt: off
_MODELS = (
    HostedModel(DEFAULT_MODEL, "live", 8192, True,
                "default of NVIDIA's own retrieval documentation; a user saw it answer on 2026-09-28"),
    HostedModel("nvidia/llama-nemotron-rerank-500m-v2", "unknown", 8192, False, "NIM 1.10 release notes"),
    HostedModel("nvidia/llama-3.2-nemoretriever-500m-rerank-v2", "unknown", 8192, False, "model page"),
    HostedModel("nvidia/llama-3.2-nv-rerankqa-1b-v1", "unknown", 8192, False, "superseded by v2, which is retired"),
    HostedModel("nvidia/llama-nemotron-rerank-1b-v2", "retired", 8192, False,
                "one user reports its end; its embedding sibling answers 410 since then", "2026-08-25", DEFAULT_MODEL),
    HostedModel("nvidia/llama-3.2-nv-rerankqa-1b-v2", "retired", 8192, False,
                "the endpoint answers 410", "2026-05-18", DEFAULT_MODEL),
    HostedModel("nvidia/nv-rerankqa-mistral-4b-v3", "retired", 512, False,
                "the endpoint answers 404; gone from NVIDIA's clients since 2026-01", None, DEFAULT_MODEL),
    HostedModel("nv-rerank-qa-mistral-4b:1", "retired", 512, False,
                "banner on the model page", "2026-08-24", DEFAULT_MODEL,
                f"{CATALOG_ADDRESS}/v1/retrieval/nvidia/reranking"),
)
# fmt: on
CATALOG: dict[str, HostedModel] = {model.id: model for model in _MODELS}


def build_catalog_path(model: str) -> str:
    """Return the path at which the API catalog serves a model: the naming rule writes dots as underscores."""
    return f"/v1/retrieval/{model.replace('.', '_')}/reranking"


def find_model(model: str) -> HostedModel:
    """Return what the table knows about a model, or an entry by the naming rule."""
    return CATALOG.get(model, HostedModel(model))


def check_status(model: str) -> None:
    """Raise `ModelRetired` for a hosted model that is known to be gone; warn of one that is not in the table."""
    entry = find_model(model)
    if model not in CATALOG:
        warnings.warn(
            f"Unable to determine validity of {model}: it is not in the table of hosted models (connector.CATALOG). "
            f"{entry.url} follows from its name.",
            stacklevel=4,
        )
    if entry.status == "retired":
        since = f" since {entry.end_of_life}" if entry.end_of_life else ""
        raise ModelRetired(
            f"The API catalog no longer serves {model}{since}: {entry.source}",
            hint=f"Use {entry.replacement or 'a live model'}, or pass allow_retired=True if you know better.",
            model=model,
        )
