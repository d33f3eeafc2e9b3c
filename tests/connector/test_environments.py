"""Environments as people have them: a ranking, or an error that names the variable or the proxy to correct."""

import asyncio
import logging
import pickle
import socket
import ssl

import pytest
from certificate import CERTIFICATE
from certificate import KEY as CERTIFICATE_KEY
from connector.errors import RerankError
from connector.proxies import find_proxy
from connector.reranker import NVIDIARerank
from leaks import texts_of, traceback_of
from llama_index.core.schema import NodeWithScore, TextNode
from raw_service import http, rank, serving

KEY = "nvapi-secret-of-the-test"
FIRST_STAGE, RANKED = ["1", "3", "2"], ["3", "2", "1"]
DEAD = "127.0.0.1:9"  # nobody listens at the port for discarding


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
    with serving(lambda head, body: http(b"", "502 X") if head.startswith(b"CONNECT") else rank(head, body)) as running:
        yield running


def nodes():
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in FIRST_STAGE]


def reranked(base_url=None, way="sync", **arguments):
    given = {"model": "m", "max_retries": 0, "deadline": 20, "allow_retired": True} | arguments
    with NVIDIARerank(base_url=base_url, **given) as reranker:
        if way == "sync":
            best = reranker.postprocess_nodes(nodes(), query_str="q")
        else:
            best = asyncio.run(reranker.apostprocess_nodes(nodes(), query_str="q"))
        return [item.text for item in best]


REFUSED = {
    # what is set, and the variable that a ValueError of the constructor must name
    **{
        f"key {key!r}": ({"NVIDIA_API_KEY": key, "NVRERANK_CATALOG_URL": "{service}"}, "NVIDIA_API_KEY")
        for key in [
            "<nvapi-your-key>",
            "$NVIDIA_API_KEY",
            "${NVIDIA_API_KEY}",
            "%NVIDIA_API_KEY%",
            "{{ nvidia_api_key }}",
            "nvapi-",
            "nvapi-...",
            "nvapi-xxxx",
            "nvapi-XXXXXXXX",
            "your_api_key_here",
            '"<your key>"',
            "nvapi-one\nnvapi-two",
            "export NVIDIA_API_KEY=nvapi-one",
            "Bearer nvapi-one",
            "nvapi-\u00e4",
            "\u201cnvapi-one\u201d",
            "\ufeffnvapi-one",
            "nvapi-one\u200b",
            "nvapi-\x1b[31m",
        ]
    },
    **{
        f"address {address!r}": ({"NVIDIA_BASE_URL": address}, "NVIDIA_BASE_URL")
        for address in [
            "ftp://nim.test/v1",
            "tcp://nim.test:8000",
            "http://",
            "http:/nim.test/v1",
            "//nim.test",
            "http://[::1",
            "http://nim.test:99999",
            "http://nim.test:port/v1",
            "http://nim.test:0",
            "http://nim .test/v1",
            "http://nim.test\t:80",
            "http://nim\\v1",
            "http://user:word@nim.test/v1",
            "http://nim.test/v1?key=1",
            "http://nim.test/v1#part",
            "<address of your NIM>",
        ]
    },
    **{
        f"catalog {address!r}": ({"NVRERANK_CATALOG_URL": address}, "NVRERANK_CATALOG_URL")
        for address in [
            "http://catalog.test",
            "https://ai.api.nvidia.com",
            "http://127.0.0.1.evil.test",
            "ftp://127.0.0.1",
            "http:/127.0.0.1",
            "http://127.0.0.1:99999",
            "http://127.0.0.1\t:80",
            "http://u:word@127.0.0.1",
        ]
    },
    "no key for the catalog": ({}, "NVIDIA_API_KEY"),
    "a blank key for the catalog": ({"NVIDIA_API_KEY": " \n"}, "NVIDIA_API_KEY"),
    "quotes without a key": ({"NVIDIA_API_KEY": '""'}, "NVIDIA_API_KEY"),
}

TAKEN = {
    **{
        f"key {key!r}": ({"NVIDIA_API_KEY": key, "NVRERANK_CATALOG_URL": "{service}"}, None)
        for key in [KEY, f'"{KEY}"', f"'{KEY}'", f" {KEY}\n", f"{KEY}\r\n", f'" {KEY} "', f"\t{KEY}"]
    },
    **{
        f"address {address!r}": ({"NVIDIA_BASE_URL": address}, None)
        for address in [
            "{service}",
            "{service}/",
            "{service}/v1",
            "{service}/v1/",
            "{service}//v1//",
            "{service}/v1/ranking",
            "{service}/v1/rankings",
            "{service}/v1/models",
            "127.0.0.1:{port}",
            "127.0.0.1:{port}/v1",
            "localhost:{port}",
            "LOCALHOST:{port}/v1",
            "HTTP://127.0.0.1:{port}",
            " {service}/v1 \n",
            "http://nim.test:{port}/v1",
            "http://NIM.Test:{port}/v1",
            "http://b\u00fccher.test:{port}/v1",
        ]
    },
    **{
        f"catalog {address!r}": ({"NVRERANK_CATALOG_URL": address, "NVIDIA_API_KEY": KEY}, None)
        for address in [
            "{service}",
            "{service}/",
            "{service}\t",
            "\t{service} \n",
            "127.0.0.1:{port}",
            "localhost:{port}",
            "{service}/somewhere",
        ]
    },
    "no address": ({"NVIDIA_BASE_URL": "", "NVRERANK_CATALOG_URL": "{service}"}, None),
    "a blank address": ({"NVIDIA_BASE_URL": "  ", "NVRERANK_CATALOG_URL": "{service}"}, None),
    **{
        f"proxy {value!r}": ({"HTTP_PROXY": value, "HTTPS_PROXY": value, "ALL_PROXY": value}, "{name}")
        for value in ["", "  "]
    },
    "a proxy for https only": ({"HTTPS_PROXY": DEAD}, "{name}"),
    "a lower-case nothing over a proxy": ({"HTTP_PROXY": DEAD, "http_proxy": ""}, "{name}"),
    **{
        f"NO_PROXY {value!r}": ({"HTTP_PROXY": DEAD, name: value}, "{name}")
        for name in ("NO_PROXY", "no_proxy")
        for value in [
            "*",
            "nim.test",
            ".test",
            "test",
            "nim.test:{port}",
            "NIM.TEST",
            "*.test",
            " other.test , nim.test ",
            "other.test nim.test",
            "[,(,,10.0.0.0/99,nim.test",
        ]
    },
    "a NO_PROXY with a network": ({"HTTP_PROXY": DEAD, "NO_PROXY": "0.0.0.0/8"}, "http://0.0.0.0:{port}/v1"),
    "a certificate file that is missing, for http": ({"SSL_CERT_FILE": "/missing.pem"}, "{name}"),
    "a certificate file that is empty text": ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}, "{name}"),
}

PROXIES = {
    "dead": f"http://{DEAD}",
    "dead, without a scheme": DEAD,
    "dead, in capitals": f"HTTP://{DEAD}",
    "dead, https": f"https://{DEAD}",
    "dead, with blanks": f" http://{DEAD} ",
    "dead, IPv6": "http://[::1]:9",
    "port too large": "http://127.0.0.1:99999",
    "port of letters": "http://127.0.0.1:port",
    "half an IPv6 address": "http://[::1",
    "a blank in it": "http://127.0.0.1 :9",
    "in quotes": f"'http://{DEAD}'",
    "one slash": f"http:/{DEAD}",
    "a name that does not exist": "http://proxi.example:3128",
    "socks": f"socks://{DEAD}",
    "socks4": f"socks4://{DEAD}",
    "socks5": f"socks5://{DEAD}",
    "socks5h": f"socks5h://{DEAD}",
    "another scheme": f"ftp://{DEAD}",
    "a control character": "http://127.0.0.1\x07:9",
}
CREDENTIALS = {
    "plain": f"http://jane:pa55word@{DEAD}",
    "without a scheme": f"jane:pa55word@{DEAD}",
    "percent": f"http://jane:pa55word%40x@{DEAD}",
    "an at sign": f"http://jane:pa55word@x@{DEAD}",
    "a hash": f"http://jane:pa55word#@{DEAD}",
    "a slash": f"http://jane:pa55word/x@{DEAD}",
    "a question mark": f"http://jane:pa55word?@{DEAD}",
    "a colon": f"http://jane:pa55word:x@{DEAD}",
    "not Latin": f"http://jane:pa55word\u20ac@{DEAD}",
    "port too large": "http://jane:pa55word@127.0.0.1:99999",
    "port of letters": "http://jane:pa55word@127.0.0.1:port",
    "half an IPv6 address": "http://jane:pa55word@[::1",
    "one slash": f"http:/jane:pa55word@{DEAD}",
    "socks": f"socks://jane:pa55word@{DEAD}",
    "socks5": f"socks5://jane:pa55word@{DEAD}",
    "another scheme": f"ftp://jane:pa55word@{DEAD}",
}
FAILING = {
    **{
        f"{name}, {scheme}": ({f"{scheme}_proxy".upper(): value}, f"{scheme}://nim.test:{{port}}/v1", scheme.upper())
        for scheme in ("http", "https")
        for name, value in (PROXIES | CREDENTIALS).items()
    },
    "ALL_PROXY": ({"ALL_PROXY": DEAD}, "{name}", "ALL_PROXY"),
    "all_proxy": ({"all_proxy": DEAD}, "{name}", "ALL_PROXY"),
    "http_proxy": ({"http_proxy": DEAD}, "{name}", "HTTP_PROXY"),
    "an empty HTTP_PROXY before ALL_PROXY": ({"HTTP_PROXY": "", "ALL_PROXY": DEAD}, "{name}", "ALL_PROXY"),
    "another name in NO_PROXY": ({"HTTP_PROXY": DEAD, "NO_PROXY": "im.test,10.0.0.0/8,[::1]"}, "{name}", "HTTP_PROXY"),
    "no_proxy before NO_PROXY": ({"HTTP_PROXY": DEAD, "NO_PROXY": "nim.test", "no_proxy": "x"}, "{name}", "HTTP_PROXY"),
    "a missing certificate file": ({"SSL_CERT_FILE": "/missing.pem"}, "{secure}/v1", "SSL_CERT_FILE=/missing.pem"),
    "a folder for a file": ({"SSL_CERT_FILE": "{folder}"}, "{secure}/v1", "SSL_CERT_FILE"),
    "garbage for a certificate": ({"SSL_CERT_FILE": "{garbage}"}, "{secure}/v1", "SSL_CERT_FILE"),
    "a missing certificate folder": ({"SSL_CERT_DIR": "/missing"}, "{secure}/v1", "SSL_CERT_DIR"),
    "a certificate that is not trusted": ({}, "{secure}/v1", "SSL_CERT_FILE"),
    "https to a port that speaks http": ({}, "https://127.0.0.1:{port}/v1", "base_url with http://"),
    "a name that does not exist": ({}, "http://nim.example/v1", "base_url"),
}


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


@pytest.mark.parametrize(("variables", "culprit"), REFUSED.values(), ids=REFUSED)
def test_the_constructor_names_a_variable_that_cannot_be_used(setting, variables, culprit):
    setting(variables)
    with pytest.raises(ValueError, match=culprit) as raised:
        NVIDIARerank(model="m", allow_retired=True)
    assert not any(secret in str(raised.value) for secret in ("nvapi-one", "word@"))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("variables", "address"), TAKEN.values(), ids=TAKEN)
def test_an_environment_in_which_it_ranks(setting, variables, address, way):
    assert reranked(setting(variables, address), way) == RANKED


@pytest.mark.parametrize(("variables", "address", "culprit"), FAILING.values(), ids=FAILING)
def test_the_error_names_what_is_in_the_way(setting, variables, address, culprit):
    address = setting(variables, address)
    with pytest.raises(RerankError) as raised:
        reranked(address)
    assert culprit in str(raised.value)
    if any(name.lower().endswith("_proxy") for name in variables):
        assert "PROXY" in raised.value.hint  # what to correct is the proxy, and not the address


@pytest.mark.parametrize(("variables", "address", "culprit"), FAILING.values(), ids=FAILING)
def test_keep_order_answers_in_every_environment(setting, variables, address, culprit):
    assert reranked(setting(variables, address), "async", on_failure="keep_order") == FIRST_STAGE


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy_url", CREDENTIALS.values(), ids=CREDENTIALS)
def test_no_credentials_of_a_proxy_are_shown(setting, caplog, scheme, proxy_url):
    address = setting({f"{scheme}_proxy": proxy_url}, f"{scheme}://nim.test:{{port}}/v1")
    with pytest.raises(RerankError) as raised:
        reranked(address)
    with caplog.at_level(logging.DEBUG):
        reranked(address, on_failure="keep_order")
    error = raised.value
    shown = [*texts_of(error), repr(error), pickle.dumps(error).decode("latin-1"), traceback_of(error), caplog.text]
    assert not any(secret in text for text in shown for secret in ("pa55word", "jane"))


def test_a_trusted_certificate_is_trusted(monkeypatch, secure):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    assert reranked(f"{secure.origin}/v1") == RANKED
    assert reranked(f"{secure.origin}/v1", "async") == RANKED


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_proxy_that_lives_is_used(monkeypatch, proxy, way):
    monkeypatch.setenv("HTTP_PROXY", proxy.origin.replace("http://", "http://jane:pa55word@"))
    assert reranked("http://nim.example/v1", way) == RANKED
    assert proxy.heads[-1].startswith(b"POST http://nim.example/v1/ranking ")
    assert b"Proxy-Authorization: Basic amFuZTpwYTU1d29yZA==" in proxy.heads[-1]


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Login", "502 Bad Gateway", "503 X", "504 X"])
def test_an_error_that_came_by_a_proxy_names_it(monkeypatch, proxy, status):
    proxy.answer = lambda *_: http(b"<html>Squid</html>", status)
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    with pytest.raises(RerankError, match="PROXY"):
        reranked("http://nim.example/v1")


@pytest.mark.parametrize("status", ["407 Login", "502 Bad Gateway", "503 X"])
def test_a_proxy_that_refuses_a_tunnel_is_named(monkeypatch, proxy, status):
    proxy.answer = lambda *_: http(b"", status)
    monkeypatch.setenv("HTTPS_PROXY", proxy.origin.replace("http://", "http://jane:pa55word@"))
    with pytest.raises(RerankError, match="HTTPS_PROXY") as raised:
        reranked("https://nim.example/v1")
    assert "pa55word" not in str(raised.value)


def test_the_key_does_not_reach_the_proxy_of_an_encrypted_connection(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy.origin)
    assert reranked("https://nim.example/v1", api_key=KEY, on_failure="keep_order") == FIRST_STAGE
    assert proxy.heads[-1].startswith(b"CONNECT nim.example:443 ")
    assert not any(KEY.encode() in head for head in proxy.heads)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_nothing_for_this_machine_reaches_a_proxy(monkeypatch, service, proxy, way, name):
    monkeypatch.setenv(name, proxy.origin)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    monkeypatch.setenv("NVRERANK_CATALOG_URL", service.origin)
    assert reranked(None, way) == RANKED
    assert reranked(f"http://localhost:{service.port}/v1", way, api_key="my-own-key") == RANKED
    assert proxy.requests == []


LOOPBACK = [
    *["127.0.0.1", "127.0.0.53", "localhost", "LocalHost", "localhost.", "nim.localhost", "[::1]", "[0:0:0:0:0:0:0:1]"],
    *["[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1%25lo]"],
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_has_no_proxy_however_it_is_written(monkeypatch, host):
    monkeypatch.setenv("ALL_PROXY", f"http://{DEAD}")
    assert find_proxy(f"http://{host}:8000/v1") is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example", "localhost.example", "notlocalhost", "[2001:db8::1]", "128.0.0.1"]
)
def test_other_machines_have_one(monkeypatch, host):
    monkeypatch.setenv("ALL_PROXY", f"http://{DEAD}")
    assert str(find_proxy(f"http://{host}:8000/v1")) == f"ALL_PROXY (http://{DEAD})"


@pytest.fixture
def dead_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://{DEAD}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_with_a_dead_proxy_it_ranks_on_this_machine(dead_proxy, service, way, host):
    assert reranked(f"http://{host}:{service.port}/v1", way) == RANKED


def test_with_a_dead_proxy_connect_starts_the_stand_in(dead_proxy):
    pytest.importorskip("fastapi")
    connect = pytest.importorskip("nvrerank_helpers").connect
    service = connect()
    assert service.service == "the local stand-in"
    assert sorted(reranked(model=None)) == sorted(FIRST_STAGE)
