"""Environments as people have them: a ranking, or an error that names the variable or the proxy to correct."""

import logging
import pickle
import socket
import ssl

import pytest
from asking import nodes
from asking import rerank as ask
from certificate import CERTIFICATE
from certificate import KEY as CERTIFICATE_KEY
from connector.errors import RerankError
from connector.proxies import Proxy, find_proxy
from connector.reranker import NVIDIARerank
from http_fake import http, rank, serving
from hypothesis import given
from hypothesis import strategies as st
from leaks import texts_of, traceback_of

KEY = "nvapi-secret-of-the-test"
FIRST_STAGE, RANKED = ["1", "3", "2"], ["3", "2", "1"]
DEAD = "127.0.0.1:9"  # nobody listens at the port for discarding
PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Let every name that ends in `.test` be this machine, and no other name be known."""

    def look_up(host, port, *_, **__):
        name = host.decode() if isinstance(host, bytes) else host
        if name and name.endswith(".test"):
            name = "127.0.0.1"
        if not name or name.strip("0123456789.:abcdef") not in ("", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(name, port, type=socket.SOCK_STREAM)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture(scope="module")
def service():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A service with a certificate that nobody trusts, at `https://`."""
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "certificate.pem").write_text(CERTIFICATE)
    (folder / "key.pem").write_text(CERTIFICATE_KEY)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with serving(tls=tls) as running:
        running.certificate = folder / "certificate.pem"
        yield running


@pytest.fixture
def proxy():
    """A proxy that answers in place of the service."""
    with serving(lambda request: http(b"", "502 X") if request.method == "CONNECT" else rank(request)) as running:
        yield running


def rerank(base_url=None, way="sync", **arguments):
    given = {"model": "m", "max_retries": 0, "deadline": 60, "allow_retired": True} | arguments
    with NVIDIARerank(base_url=base_url, **given) as reranker:
        return [item.text for item in ask(reranker, nodes(*FIRST_STAGE), way)]


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


ODD_KEYS = lines("""
    <nvapi-your-key>
    $NVIDIA_API_KEY
    %NVIDIA_API_KEY%
    {{ nvidia_api_key }}
    nvapi-...
    nvapi-XXXXXXXX
    your_api_key_here
    "<your key>"
    export NVIDIA_API_KEY=nvapi-one
    Bearer nvapi-one
""")
ODD_KEYS += [
    "nvapi-one\nnvapi-two",
    "nvapi-\u00e4",
    "\u201cnvapi-one\u201d",
    "\ufeffnvapi-one",
    "nvapi-one\u200b",
    "\x1b[31m",
]
ODD_ADDRESSES = lines("""
    ftp://nim.test/v1
    tcp://nim.test:8000
    http://
    http:/nim.test/v1
    //nim.test
    http://[::1
    http://nim.test:99999
    http://nim.test:port/v1
    http://nim.test:0
    http://nim .test/v1
    http://nim\\v1
    http://user:word@nim.test/v1
    http://nim.test/v1?key=1
    http://nim.test/v1#part
    <address of your NIM>
""")
ODD_CATALOGS = lines("""
    http://catalog.test
    https://ai.api.nvidia.com
    http://127.0.0.1.evil.test
    ftp://127.0.0.1
    http:/127.0.0.1
    http://127.0.0.1:99999
    http://u:word@127.0.0.1
""")
REFUSED = [  # what is set, and the variable that a ValueError of the constructor must name
    *(({"NVIDIA_API_KEY": key, "NVRERANK_CATALOG_URL": "{service}"}, "NVIDIA_API_KEY") for key in ODD_KEYS),
    *(({"NVIDIA_BASE_URL": address}, "NVIDIA_BASE_URL") for address in [*ODD_ADDRESSES, "http://nim.test\t:80"]),
    *(({"NVRERANK_CATALOG_URL": one}, "NVRERANK_CATALOG_URL") for one in [*ODD_CATALOGS, "http://127.0.0.1\t:80"]),
    *(({"NVIDIA_API_KEY": key}, "NVIDIA_API_KEY") for key in ["", " \n", '""']),
]
ADDRESSES = lines("""
    {service}
    {service}/
    {service}/v1/
    {service}//v1//
    {service}/v1/rankings
    {service}/v1/models
    127.0.0.1:{port}
    127.0.0.1:{port}/v1
    LOCALHOST:{port}/v1
    HTTP://127.0.0.1:{port}
    http://nim.test:{port}/v1
    http://NIM.Test:{port}/v1
    http://b\u00fccher.test:{port}/v1
""")
CATALOGS = ["{service}", "{service}/", "{service}\t", "\t{service} \n", "localhost:{port}", "{service}/somewhere"]
EXCEPTIONS = [
    "*",
    ".test",
    "test",
    "nim.test:{port}",
    "NIM.TEST",
    "*.test",
    " other.test , nim.test ",
    "[,(,,x/99,nim.test",
]
NAME = "{name}"
TAKEN = [  # what is set, and the address
    *(
        ({"NVIDIA_API_KEY": key, "NVRERANK_CATALOG_URL": "{service}"}, None)
        for key in [KEY, f'"{KEY}"', f"'{KEY}'", f" {KEY}\n", f"{KEY}\r\n", f'" {KEY} "', f"\t{KEY}"]
    ),
    *(({"NVIDIA_BASE_URL": address}, None) for address in [*ADDRESSES, " {service}/v1 \n"]),
    *(({"NVRERANK_CATALOG_URL": address, "NVIDIA_API_KEY": KEY}, None) for address in CATALOGS),
    *(({"NVIDIA_BASE_URL": value, "NVRERANK_CATALOG_URL": "{service}"}, None) for value in ["", "  "]),
    *(({"HTTP_PROXY": value, "HTTPS_PROXY": value, "ALL_PROXY": value}, NAME) for value in ["", "  "]),
    ({"HTTPS_PROXY": DEAD}, NAME),
    ({"HTTP_PROXY": DEAD, "http_proxy": ""}, NAME),
    *(({"HTTP_PROXY": DEAD, "NO_PROXY": value}, NAME) for value in EXCEPTIONS),
    ({"HTTP_PROXY": DEAD, "no_proxy": "nim.test"}, NAME),
    ({"HTTP_PROXY": DEAD, "NO_PROXY": "0.0.0.0/8"}, "http://0.0.0.0:{port}/v1"),
    ({"SSL_CERT_FILE": "/missing.pem"}, NAME),  # not looked at for http
    ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}, NAME),
]

PROXIES = lines(f"""
    http://{DEAD}
    {DEAD}
    HTTP://{DEAD}
    https://{DEAD}
    http://[::1]:9
    http://127.0.0.1:99999
    http://127.0.0.1:port
    http://[::1
    http://127.0.0.1 :9
    'http://{DEAD}'
    http:/{DEAD}
    http://proxi.example:3128
    socks://{DEAD}
    socks4://{DEAD}
    socks5://{DEAD}
    socks5h://{DEAD}
    ftp://{DEAD}
""")
CREDENTIALS = lines(f"""
    http://jane:pa55word@{DEAD}
    jane:pa55word@{DEAD}
    http://jane:pa55word%40x@{DEAD}
    http://jane:pa55word@x@{DEAD}
    http://jane:pa55word#@{DEAD}
    http://jane:pa55word/x@{DEAD}
    http://jane:pa55word?@{DEAD}
    http://jane:pa55word:x@{DEAD}
    http://jane:pa55word\u20ac@{DEAD}
    http://jane:pa55word@127.0.0.1:99999
    http://jane:pa55word@127.0.0.1:port
    http://jane:pa55word@[::1
    http:/jane:pa55word@{DEAD}
    socks://jane:pa55word@{DEAD}
    socks5://jane:pa55word@{DEAD}
    ftp://jane:pa55word@{DEAD}
""")
FAILING = [  # what is set, the address, and what the error must name
    *(
        ({f"{scheme.upper()}_PROXY": value}, f"{scheme}://nim.test:{{port}}/v1", scheme.upper())
        for scheme in ("http", "https")
        for value in [*PROXIES, *CREDENTIALS, f" http://{DEAD} ", "http://127.0.0.1\x07:9"]
    ),
    ({"ALL_PROXY": DEAD}, NAME, "ALL_PROXY"),
    ({"all_proxy": DEAD}, NAME, "ALL_PROXY"),
    ({"http_proxy": DEAD}, NAME, "HTTP_PROXY"),
    ({"HTTP_PROXY": "", "ALL_PROXY": DEAD}, NAME, "ALL_PROXY"),
    ({"HTTP_PROXY": DEAD, "NO_PROXY": "im.test,10.0.0.0/8,[::1]"}, NAME, "HTTP_PROXY"),
    ({"HTTP_PROXY": DEAD, "NO_PROXY": "nim.test", "no_proxy": "x"}, NAME, "HTTP_PROXY"),
    ({"SSL_CERT_FILE": "/missing.pem"}, "{secure}/v1", "SSL_CERT_FILE=/missing.pem"),
    ({"SSL_CERT_FILE": "{folder}"}, "{secure}/v1", "SSL_CERT_FILE"),
    ({"SSL_CERT_FILE": "{garbage}"}, "{secure}/v1", "SSL_CERT_FILE"),
    ({"SSL_CERT_DIR": "/missing"}, "{secure}/v1", "SSL_CERT_DIR"),
    ({}, "{secure}/v1", "SSL_CERT_FILE"),  # a certificate that is not trusted
    ({}, "https://127.0.0.1:{port}/v1", "base_url with http://"),
    ({}, "http://nim.example/v1", "base_url"),
]


@pytest.fixture
def setting(monkeypatch, service, secure, tmp_path):
    """Set variables, and write an address, with the places of what runs here in them."""
    (tmp_path / "garbage.pem").write_text("no certificate\n")
    places = {"service": service.origin, "port": service.port, "secure": secure.origin, "folder": tmp_path}
    places |= {"garbage": tmp_path / "garbage.pem", "name": f"http://nim.test:{service.port}/v1"}

    def fill(text):
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def set_all(variables, address=None):
        for name, value in variables.items():
            monkeypatch.setenv(name, fill(value))
        return address and fill(address)

    return set_all


@pytest.mark.parametrize(("variables", "culprit"), REFUSED, ids=str)
def test_the_constructor_names_a_variable_that_cannot_be_used(setting, variables, culprit):
    setting(variables)
    with pytest.raises(ValueError, match=culprit) as raised:
        NVIDIARerank(model="m", allow_retired=True)
    assert not any(secret in str(raised.value) for secret in ("nvapi-one", "word@"))


@pytest.mark.parametrize(("variables", "address"), TAKEN, ids=str)
def test_an_environment_in_which_it_ranks(setting, variables, address, way):
    assert rerank(setting(variables, address), way) == RANKED


@pytest.mark.parametrize(("variables", "address", "culprit"), FAILING, ids=str)
def test_the_error_names_what_is_in_the_way_and_keep_order_answers(setting, caplog, variables, address, culprit):
    address = setting(variables, address)
    with pytest.raises(RerankError) as raised:
        rerank(address)
    with caplog.at_level(logging.DEBUG):
        assert rerank(address, "async", on_failure="keep_order") == FIRST_STAGE
    error = raised.value
    assert culprit in str(error)
    if any(name.lower().endswith("_proxy") for name in variables):
        assert "PROXY" in error.hint  # what to correct is the proxy, and not the address
    shown = [*texts_of(error), repr(error), pickle.dumps(error).decode("latin-1"), traceback_of(error), caplog.text]
    assert not any(secret in text for text in shown for secret in ("pa55word", "jane"))


def test_a_trusted_certificate_is_trusted(monkeypatch, secure, way):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    assert rerank(f"{secure.origin}/v1", way) == RANKED


def test_a_proxy_that_lives_is_used(monkeypatch, proxy, way):
    monkeypatch.setenv("HTTP_PROXY", proxy.origin.replace("http://", "http://jane:pa55word@"))
    assert rerank("http://nim.example/v1", way) == RANKED
    assert proxy.heads[-1].startswith(b"POST http://nim.example/v1/ranking ")
    assert proxy.received[-1].headers["proxy-authorization"] == "Basic amFuZTpwYTU1d29yZA=="


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", ["403 Forbidden", "407 Login", "502 Bad Gateway", "503 X", "504 X"])
def test_an_error_that_came_by_a_proxy_names_it(monkeypatch, proxy, scheme, status):
    proxy.script = http(b"<html>Squid</html>", status)
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.origin.replace("http://", "http://jane:pa55word@"))
    with pytest.raises(RerankError, match=f"{scheme.upper()}_PROXY") as raised:
        rerank(f"{scheme}://nim.example/v1")
    assert "pa55word" not in str(raised.value)


def test_the_key_does_not_reach_the_proxy_of_an_encrypted_connection(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy.origin)
    assert rerank("https://nim.example/v1", api_key=KEY, on_failure="keep_order") == FIRST_STAGE
    assert proxy.heads[-1].startswith(b"CONNECT nim.example:443 ")
    assert not any(KEY.encode() in head for head in proxy.heads)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_nothing_for_this_machine_reaches_a_proxy(monkeypatch, service, proxy, way, name):
    monkeypatch.setenv(name, proxy.origin)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    monkeypatch.setenv("NVRERANK_CATALOG_URL", service.origin)
    assert rerank(None, way) == RANKED
    assert rerank(f"http://localhost:{service.port}/v1", way, api_key="my-own-key") == RANKED
    assert proxy.received == []


def test_with_a_dead_proxy_connect_starts_the_stand_in(monkeypatch):
    pytest.importorskip("fastapi")
    connect = pytest.importorskip("nvrerank_helpers").connect
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{DEAD}")
    assert connect().service == "the local stand-in"
    assert sorted(rerank(model=None)) == sorted(FIRST_STAGE)


LOOPBACK = [
    *["127.0.0.1", "127.0.0.53", "localhost", "LocalHost", "localhost.", "nim.localhost", "[::1]", "[0:0:0:0:0:0:0:1]"],
    *["[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1%25lo]"],
]
ELSEWHERE = ["127.0.0.1.example", "localhost.example", "notlocalhost", "[2001:db8::1]", "128.0.0.1"]


@pytest.mark.parametrize(("host", "found"), [*((h, None) for h in LOOPBACK), *((h, "ALL_PROXY") for h in ELSEWHERE)])
def test_this_machine_has_no_proxy_however_it_is_written(monkeypatch, host, found):
    monkeypatch.setenv("ALL_PROXY", PROXY)
    proxy = find_proxy(f"http://{host}:8000/v1")
    assert (proxy and proxy.variable) == found


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": "http://other.example"}, Proxy(PROXY, "HTTP_PROXY")),
        ({"http_proxy": PROXY, "HTTP_PROXY": "http://other.example"}, Proxy(PROXY, "HTTP_PROXY")),
        ({"HTTP_PROXY": " proxy.example:3128 "}, Proxy(PROXY, "HTTP_PROXY")),
        ({"HTTPS_PROXY": PROXY}, None),
    ],
    ids=str,
)
def test_the_variable_that_names_the_proxy_is_known(monkeypatch, variables, wanted):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_proxy("http://nim.example/v1") == wanted


@pytest.mark.parametrize(
    ("host", "excepted", "other"),
    [
        (
            "10.1.2.3",
            ["10.0.0.0/8", "192.168.0.0/16, 10.0.0.0/8", "x 10.1.0.0/16", "10.1.2.3", "10.1.2.3/8", "10.1.2.3:8000"],
            ["10.0.0.0/99", "fd00::/8"],
        ),
        ("[fd00::5]", ["fd00::/8", "fd00::5", "[fd00::5]", "FD00:0::5"], ["10.0.0.0/8"]),
        (
            "nim.corp.example",
            ["corp.example", ".corp.example", "*.corp.example", "other nim.corp.example", "*", "a,*"],
            ["10.0.0.0/8", "example.com", "im.corp.example", "[::1", "", ",", "nim.corp.example:9"],
        ),
    ],
)
def test_no_proxy_excepts_a_host_and_no_other(monkeypatch, host, excepted, other):
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    for no_proxy in excepted + other:
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert (find_proxy(f"http://{host}:8000/v1") is None) == (no_proxy in excepted), no_proxy


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_value_of_no_proxy_breaks_it(no_proxy):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", PROXY)
        patch.setenv("NO_PROXY", no_proxy)
        for host in ("nim.example", "[fd00::5]"):
            assert find_proxy(f"http://{host}:8000/v1") in (None, Proxy(PROXY, "HTTP_PROXY"))


@pytest.mark.parametrize(
    "url", ["http://jane:pa55word@p.example", "http://jane:pa@55word@p.example", "socks5://jane@p.example"]
)
def test_no_text_of_a_proxy_shows_its_credentials(url):
    for text in (str(Proxy(url, "HTTP_PROXY")), repr(Proxy(url, "HTTP_PROXY"))):
        assert "jane" not in text
        assert "55word" not in text
        assert "p.example" in text
