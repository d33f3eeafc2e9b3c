import pickle

from connector import errors
from connector.errors import RateLimited, RerankError, StatusError


def test_every_error_says_what_to_do():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RerankError)]
    concrete = [kind for kind in classes if kind not in (RerankError, StatusError)]
    assert len({kind.hint for kind in concrete}) == len(concrete)


def test_the_text_names_model_address_and_request_id():
    text = str(RateLimited("Slow down.", model="m", url="http://host/v1/ranking", request_id="r-1"))
    assert text.startswith("Slow down. (model m, address http://host/v1/ranking, request id r-1)\n  What to do: ")


def test_an_error_survives_pickling():
    copy = pickle.loads(pickle.dumps(RateLimited("Slow down.", status=429, detail="too many")))
    assert (copy.status, copy.status_code, copy.detail) == (429, 429, "too many")
    assert str(copy) == str(RateLimited("Slow down."))
