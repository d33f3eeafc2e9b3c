import pytest
from pydantic import SecretStr

from nvrerank_helpers.connector.endpoints import endpoint
from nvrerank_helpers.connector.keys import find_key, key_for
from nvrerank_helpers.connector.redaction import redact

ENVIRONMENT = {"NVIDIA_API_KEY": "nvapi-from-the-environment"}


def test_a_given_key_wins_over_the_environment():
    key = find_key("nvapi-given", ENVIRONMENT)
    assert (key.secret.get_secret_value(), key.inherited) == ("nvapi-given", False)


def test_a_key_from_the_environment_is_marked_as_inherited():
    key = find_key(None, ENVIRONMENT)
    assert (key.secret.get_secret_value(), key.inherited) == ("nvapi-from-the-environment", True)


@pytest.mark.parametrize("given", [None, "", "  ", SecretStr("")])
def test_no_key_is_none(given):
    assert find_key(given, {}) is None


def test_blanks_around_a_key_are_cut_off():
    assert find_key(SecretStr(" nvapi-given\n"), {}).secret.get_secret_value() == "nvapi-given"


@pytest.mark.parametrize("given", ["export KEY=nvapi-1 ", "nvapi-1\nnvapi-2", "nvapi-ä"])
def test_a_key_with_foreign_characters_is_refused_without_showing_it(given):
    with pytest.raises(ValueError, match="copy it again") as refused:
        find_key(given, {})
    assert "nvapi" not in str(refused.value)


def test_a_key_is_not_in_its_repr():
    assert "given" not in repr(find_key("nvapi-given", {}))


def test_redact_replaces_every_key():
    assert redact("a nvapi-abc_D-1 and nvapi-2.") == "a nvapi-… and nvapi-…."


def test_a_key_from_the_environment_goes_to_the_service_on_this_machine_that_plays_the_catalog(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-inherited")
    played = endpoint(None, None, {"NVRERANK_CATALOG_URL": "http://127.0.0.1:5000"})
    assert key_for(played, None).get_secret_value() == "nvapi-inherited"
    assert key_for(endpoint("http://127.0.0.1:5000", None), None) is None
