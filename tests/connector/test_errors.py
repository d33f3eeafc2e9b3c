import pickle

import pytest
from connector import errors
from connector.errors import RateLimited, RerankError, StatusError, status_error_class


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "RequestRefused"),
        (401, "Unauthorized"),
        (402, "PaymentRequired"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (410, "ModelRetired"),
        (413, "TooManyPassages"),
        (418, "RequestRefused"),
        (422, "RequestRefused"),
        (429, "RateLimited"),
        (500, "ServerError"),
        (503, "Overloaded"),
        (504, "ServerError"),
    ],
)
def test_each_status_has_its_error(status, name):
    assert status_error_class(status, "words").__name__ == name


@pytest.mark.parametrize("status", [400, 422])
def test_a_passage_that_is_too_long_is_recognised_by_the_words(status):
    words = "Input length 9004 exceeds maximum allowed token size 8192"
    assert status_error_class(status, words) is errors.PassageTooLong


def test_every_error_says_what_to_do():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RerankError)]
    concrete = [kind for kind in classes if kind not in (RerankError, StatusError)]
    assert len({kind.hint for kind in concrete}) == len(concrete)


def test_the_text_names_model_address_and_request_id():
    text = str(RateLimited("Slow down.", model="m", url="http://host/v1/ranking", request_id="r-1"))
    assert text.startswith("Slow down. (model m, address http://host/v1/ranking, request id r-1)\n  What to do: ")


def test_an_error_survives_pickling():
    copy = pickle.loads(pickle.dumps(RateLimited("Slow down.", status=429, detail="too many")))
    assert (copy.status, copy.detail, str(copy)) == (429, "too many", str(RateLimited("Slow down.")))
