import pytest
from connector.proxies import Proxy, find_proxy
from hypothesis import given
from hypothesis import strategies as st

PROXY = "http://proxy.example:3128"


@pytest.fixture
def proxy_of(monkeypatch):
    def found(url, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return find_proxy(url)

    return found


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ({"http_proxy": PROXY}, "HTTP_PROXY"),
        ({"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"all_proxy": PROXY}, "ALL_PROXY"),
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": "http://other.example"}, "HTTP_PROXY"),
        ({"http_proxy": PROXY, "HTTP_PROXY": "http://other.example"}, "HTTP_PROXY"),
    ],
)
def test_the_variable_that_names_the_proxy_is_told(proxy_of, variables, name):
    assert proxy_of("http://nim.example/v1", **variables) == Proxy(PROXY, name)


def test_each_scheme_has_its_variable(proxy_of):
    assert proxy_of("https://nim.example/v1", HTTP_PROXY=PROXY) is None
    assert proxy_of("https://nim.example/v1", HTTPS_PROXY=PROXY).variable == "HTTPS_PROXY"


@pytest.mark.parametrize("value", ["proxy.example:3128", " proxy.example:3128 "])
def test_without_a_scheme_a_proxy_is_spoken_to_in_http(proxy_of, value):
    assert proxy_of("http://nim.example/v1", HTTP_PROXY=value).url == PROXY


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "192.168.0.0/16, 10.0.0.0/8"),
        ("10.1.2.3", "nim.example 10.1.0.0/16"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3/8"),
        ("10.1.2.3", "10.1.2.3:8000"),
        ("[fd00::5]", "fd00::/8"),
        ("[fd00::5]", "fd00::5"),
        ("[fd00::5]", "[fd00::5]"),
        ("[fd00::5]", "FD00:0::5"),
        ("nim.corp.example", "corp.example"),
        ("nim.corp.example", ".corp.example"),
        ("nim.corp.example", "*.corp.example"),
        ("nim.corp.example", "other nim.corp.example"),
        ("nim.corp.example", "*"),
        ("nim.corp.example", "a,*"),
    ],
)
def test_no_proxy_excepts_a_host(proxy_of, host, no_proxy):
    assert proxy_of(f"http://{host}:8000/v1", HTTP_PROXY=PROXY, NO_PROXY=no_proxy) is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("10.1.2.3", "10.0.0.0/99"),
        ("10.1.2.3", "fd00::/8"),
        ("[fd00::5]", "10.0.0.0/8"),
        ("nim.example", "10.0.0.0/8"),
        ("nim.example", "example.com"),
        ("notnim.example", "nim.example"),
        ("nim.example", "[::1"),
        ("nim.example", ""),
        ("nim.example", ","),
        ("nim.example", "nim.example:9"),
    ],
)
def test_no_proxy_excepts_no_other_host(proxy_of, host, no_proxy):
    assert proxy_of(f"http://{host}:8000/v1", HTTP_PROXY=PROXY, NO_PROXY=no_proxy) is not None


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_value_of_no_proxy_breaks_it(no_proxy):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", PROXY)
        patch.setenv("NO_PROXY", no_proxy)
        assert find_proxy("http://nim.example:8000/v1") in (None, Proxy(PROXY, "HTTP_PROXY"))
        assert find_proxy("http://[fd00::5]:8000/v1") in (None, Proxy(PROXY, "HTTP_PROXY"))


@pytest.mark.parametrize(
    "value",
    [
        "http://jane:pa55word@proxy.example:3128",
        "jane:pa55word@proxy.example:3128",
        "socks5://jane:pa55word@proxy.example:1080",
        "http://jane:pa55word%40@proxy.example",
        "http://jane:pa@55word@proxy.example",
        "http://jane@proxy.example",
    ],
)
def test_no_text_of_a_proxy_shows_its_credentials(proxy_of, value):
    found = proxy_of("http://nim.example/v1", HTTP_PROXY=value)
    assert "jane" in found.url
    for text in (str(found), repr(found), f"{found}"):
        assert "jane" not in text
        assert "55word" not in text
        assert "proxy.example" in text


def test_the_scheme_of_a_proxy_is_found_in_any_case():
    assert Proxy("SOCKS5://proxy.example", "ALL_PROXY").scheme == "socks5"
