"""Which model a job asks, and whether its services have it."""

from collections.abc import Sequence

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.connector import RankingClient, RerankError, check_status, default_model, endpoint, key_for

LOOK = 10.0  # seconds to wait for a list of models


def chosen_model(model: str | None, addresses: Sequence[str | None]) -> str:
    """Choose the model, and check as far as they tell that the services have it.

    A service that is not there is passed over: it may come back, and there are others.

    Args:
        model: Id of the model; None takes the catalog's current one, or the first that the services list.
        addresses: Of the services; None is the API catalog.

    Returns:
        Id of the model.

    Raises:
        BadRun: A service has other models only.
        ModelRetired: The catalog no longer serves it.
        RerankError: No model was named, and no service lists one.

    Example:
        >>> chosen_model(None, [None])
        'nvidia/llama-nemotron-rerank-vl-1b-v2'
    """
    failures: list[RerankError] = []
    for address in addresses:
        wanted = model or default_model(address)
        target = endpoint(address, wanted or None)
        if target.in_catalog:
            check_status(wanted)
        if not target.listing_urls:
            model = wanted
            continue
        try:
            with RankingClient(target, wanted or "any", api_key=key_for(target, None), timeout=LOOK) as client:
                served = client.model_ids()
        except RerankError as error:
            failures.append(error)
            continue
        model = wanted or served[0]
        if model not in served:
            raise BadRun(f"{address} serves {', '.join(served)}, and not {model}: name one that all services have.")
    if not model:
        raise failures[0]
    return model
