"""The files under `deploy/`, read once."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE_FILES = sorted(COMPOSE.glob("*.yaml"))
MANIFESTS = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "adapter-values.yaml")
TEMPLATE = DEPLOY / "nginx" / "rerankers.conf.template"


def name(path: Path) -> str:
    return path.relative_to(DEPLOY).as_posix()


def text_files() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file())


@cache
def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def of_kind(kind: str) -> dict[str, Any]:
    """Return the manifests of a kind by the folder that they are in."""
    return {path.parent.name: read(path) for path in MANIFESTS if read(path)["kind"] == kind}


def filled_in(text: str, values: dict[str, str]) -> str:
    """Put values in for `${NAME}`, as the image of nginx does for the names that its filter lets through."""
    return re.sub(r"\$\{(RERANK_\w+)\}", lambda found: values[found[1]], text)


def interpolated(text: str) -> str:
    """Put the defaults in for `${NAME:-default}`, as compose does where nobody sets the variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Go through all mappings of a tree, the outer ones first."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from mappings(child)
