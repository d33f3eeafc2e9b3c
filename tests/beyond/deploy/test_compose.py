"""The compose files: against the schema of the compose specification, and for what they promise."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy.files import COMPOSE, COMPOSE_FILES, DEPLOY, ROOT, TEMPLATE, interpolated, name, read
from nvrerank_helpers import __version__
from nvrerank_helpers.nim_standin.cli import parse_options

NGINX, NIMS, STANDINS = COMPOSE / "nginx.yaml", COMPOSE / "nims.yaml", COMPOSE / "standins.yaml"
WHOLE = [NIMS, STANDINS]
DOCKERFILE = DEPLOY / "standin" / "Dockerfile"


def rerankers(path: Path) -> list[dict[str, Any]]:
    return [read(path)["services"][f"reranker-{number}"] for number in (1, 2)]


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=name)
def test_a_compose_file_follows_the_specification(path: Path) -> None:
    schemas = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(schemas.joinpath("compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(read(path))


@pytest.mark.parametrize("path", WHOLE, ids=name)
def test_nginx_is_the_same_before_both(path: Path) -> None:
    assert read(path)["services"]["nginx"] == {"extends": {"file": "nginx.yaml", "service": "nginx"}}


@pytest.mark.parametrize("path", WHOLE, ids=name)
def test_nginx_asks_the_addresses_that_the_rerankers_have(path: Path) -> None:
    asked = read(NGINX)["services"]["nginx"]["environment"]
    addresses = [service["networks"]["rerankers"]["ipv4_address"] for service in rerankers(path)]
    assert [asked["RERANK_1"], asked["RERANK_2"]] == [f"{address}:8000" for address in addresses]


@pytest.mark.parametrize("path", WHOLE, ids=name)
def test_the_addresses_are_in_the_network(path: Path) -> None:
    network = interpolated(read(path)["networks"]["rerankers"]["ipam"]["config"][0]["subnet"])
    for service in rerankers(path):
        address = interpolated(service["networks"]["rerankers"]["ipv4_address"])
        assert address.rpartition(".")[0] + ".0/24" == network


def test_nginx_gets_every_value_that_its_configuration_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", TEMPLATE.read_text(encoding="utf-8")))
    assert asked == {key for key in read(NGINX)["services"]["nginx"]["environment"] if key.startswith("RERANK_")}


def test_only_nginx_is_reached_from_outside_and_only_from_this_machine() -> None:
    published = [
        interpolated(port)
        for path in COMPOSE_FILES
        for service in read(path)["services"].values()
        for port in service.get("ports", [])
    ]
    assert published == ["127.0.0.1:1976:8080"]
    assert read(NGINX)["services"]["nginx"]["environment"]["RERANK_LISTEN"] == "8080"


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=name)
def test_every_container_comes_back_by_itself_and_its_health_is_known(path: Path) -> None:
    for service in read(path)["services"].values():
        checked = "healthcheck" in service or "HEALTHCHECK" in DOCKERFILE.read_text(encoding="utf-8")
        assert "extends" in service or (service["restart"] == "unless-stopped" and checked)


def test_each_nim_has_a_gpu_and_a_cache_of_its_own() -> None:
    gpus = [service["deploy"]["resources"]["reservations"]["devices"] for service in rerankers(NIMS)]
    assert [[interpolated(gpu["device_ids"][0]) for gpu in own] for own in gpus] == [["0"], ["1"]]
    caches = {service["volumes"][0] for service in rerankers(NIMS)}
    assert caches == {f"{volume}:/opt/nim/.cache" for volume in read(NIMS)["volumes"]}
    assert len(caches) == 2


def test_the_key_of_a_nim_comes_from_outside() -> None:
    for service in rerankers(NIMS):
        assert re.fullmatch(r"\$\{NGC_API_KEY\?[^}]+\}", service["environment"]["NGC_API_KEY"])


def test_the_stand_in_understands_its_options() -> None:
    for service in rerankers(STANDINS):
        asked = parse_options(service["command"])
        assert (asked.host, asked.port, asked.threads) == ("0.0.0.0", 8000, service["cpus"])


def test_the_image_of_the_stand_in_has_the_version_of_the_package() -> None:
    assert {service["image"] for service in rerankers(STANDINS)} == {f"nvrerank-standin:{__version__}"}


def test_the_image_of_the_stand_in_is_built_from_files_that_are_let_in() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    ignore = (DEPLOY / "standin" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert sources == {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_of_the_stand_in_is_built_by_the_uv_of_the_lock() -> None:
    pinned = re.search(r"^uv==(\S+)", (ROOT / "locks/course.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert f"uv=={pinned[1]}" in DOCKERFILE.read_text(encoding="utf-8")


def test_the_stand_in_is_not_run_by_root() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
