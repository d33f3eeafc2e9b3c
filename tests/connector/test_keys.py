import pytest
from connector.endpoints import resolve_endpoint
from connector.keys import find_key, remember_key, select_key
from pydantic import SecretStr

ENVIRONMENT = {"NVIDIA_API_KEY": "nvapi-from-the-environment"}


def test_a_given_key_wins_over_the_environment():
    assert find_key("nvapi-given", ENVIRONMENT).get_secret_value() == "nvapi-given"
    assert find_key(None, ENVIRONMENT).get_secret_value() == "nvapi-from-the-environment"


@pytest.mark.parametrize("given", [None, "", "  ", SecretStr(""), '""', "''", '"  "'])
def test_no_key_is_none(given):
    assert find_key(given, {}) is None


FOREIGN = [
    "export KEY=nvapi-1 ",
    "nvapi-1\nnvapi-2",
    "nvapi-ä",
    "nvapi-one\x00",
    "nvapi-one\x1b[31m",
    "Bearer nvapi-one",
]
FOREIGN += ["\ufeffnvapi-one", "nvapi-one\u200b", "NVIDIA_API_KEY=nvapi-one", "export=nvapi-one"]


@pytest.mark.parametrize("given", FOREIGN)
def test_a_key_with_foreign_characters_is_refused_without_showing_it(given):
    with pytest.raises(ValueError, match="copy it again") as refused:
        find_key(given, {})
    assert "nvapi" not in str(refused.value)


def test_a_key_is_not_in_its_repr():
    assert "given" not in repr(find_key("nvapi-given", {}))


def test_a_key_from_the_environment_goes_to_the_service_on_this_machine_that_plays_the_catalog(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-inherited")
    played = resolve_endpoint(None, None, {"NVRERANK_CATALOG_URL": "http://127.0.0.1:5000"})
    assert select_key(played, None).get_secret_value() == "nvapi-inherited"
    assert select_key(resolve_endpoint("http://127.0.0.1:5000", None), None) is None


@pytest.mark.parametrize("around", ["{}", '"{}"', "'{}'", ' "{}" ', '" {} "', "{}\r\n", "\t{}"])
def test_quotes_and_blanks_around_a_key_are_taken_off(around):
    for key in (
        find_key(around.format("nvapi-one"), {}),
        find_key(None, {"NVIDIA_API_KEY": around.format("nvapi-one")}),
    ):
        assert key.get_secret_value() == "nvapi-one"


@pytest.mark.parametrize("given", ['"nvapi-one', "nvapi-one'", "\"nvapi-one'", '"'])
def test_a_quote_on_one_side_stays(given):
    assert find_key(given, {}).get_secret_value() == given


PLACEHOLDERS = [
    "<nvapi-key>",
    "<your key>",
    "$KEY",
    "${KEY}",
    "%KEY%",
    "{{ KEY }}",
    "nvapi-",
    "nvapi-xxxx",
    "nvapi-XXX",
]
PLACEHOLDERS += [
    "nvapi-...",
    "nvapi-\u2026",
    "nvapi-***",
    "nvapi-your-key",
    "your_api_key",
    "YOUR-NVIDIA-KEY-HERE",
    '"<key>"',
]


@pytest.mark.parametrize("given", PLACEHOLDERS)
def test_a_placeholder_is_refused(given):
    with pytest.raises(ValueError, match="NVIDIA_API_KEY is a placeholder"):
        find_key(None, {"NVIDIA_API_KEY": given})
    with pytest.raises(ValueError, match="The API key is a placeholder"):
        find_key(given, {})


@pytest.mark.parametrize("given", ["nvapi-Ab3_-xYz", "nvapi-xx", "sk-1234", "key", "0123456789abcdef", "a.b.c=="])
def test_what_may_be_a_key_is_taken(given):
    assert find_key(given, {}).get_secret_value() == given


def test_a_key_that_cannot_be_used_does_not_matter_to_an_own_service(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "<nvapi-key>")
    assert select_key(resolve_endpoint("http://nim.example/v1", None, {}), None) is None


def test_a_remembered_key_goes_to_its_address_only(monkeypatch):
    monkeypatch.setattr("connector.keys._given", {})
    remember_key(resolve_endpoint("http://nim.example:8000/v1", None, {}), SecretStr("my-key"))
    assert (
        select_key(resolve_endpoint("http://nim.example:8000/v1/ranking", None, {}), None).get_secret_value()
        == "my-key"
    )
    for other in ("http://nim.example:8001/v1", "https://nim.example:8000/v1", "http://other.example:8000/v1"):
        assert select_key(resolve_endpoint(other, None, {}), None) is None


def test_the_catalog_wants_a_key():
    with pytest.raises(ValueError, match="API key is required"):
        select_key(resolve_endpoint(None, None, {}), None)
