"""The modules that LlamaIndex's tests of `NVIDIARerank` import, with our class in them."""

import sys
from types import ModuleType
from typing import Any

import httpx

from nvrerank_helpers.connector import CATALOG, DEFAULT_MODEL, select_key
from nvrerank_helpers.connector import NVIDIARerank as OurReranker

REPLACED = "llama_index.postprocessor.nvidia_rerank"


class NVIDIARerank(OurReranker):
    """Our class, as their tests use it."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # Their tests mock HTTP with respx, which patches httpx only. Our class sends requests with aiohttp unless the
        # caller passes an httpx client, which is a documented argument, so the adapter passes one.
        if settings.get("http_client") is None:
            settings["http_client"] = httpx.Client()
        super().__init__(*args, **settings)

    # Their tests read these two private attributes. Our class has no attributes of these names: it keeps the key as a
    # secret, and works out from the address whether a service is hosted.
    @property
    def _api_key(self) -> str | None:
        key = select_key(self._client.endpoint, self._given_key)
        return key.get_secret_value() if key else None

    @property
    def _is_hosted(self) -> bool:
        return self._client.endpoint.hosted


def install_adapter() -> None:
    """Put our class where their tests import it from, whether or not their package is installed.

    The constants are ours too, because the API catalog has retired the model that theirs name.
    """
    constants = {
        "DEFAULT_MODEL": DEFAULT_MODEL,
        "BASE_URL": CATALOG[DEFAULT_MODEL].url,
        "KNOWN_URLS": [model.url for model in CATALOG.values()],
    }
    for ending in ("", ".base", ".utils"):
        module = ModuleType(REPLACED + ending)
        vars(module).update(constants, NVIDIARerank=NVIDIARerank)
        sys.modules[module.__name__] = module
