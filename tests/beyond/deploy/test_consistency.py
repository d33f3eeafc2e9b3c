"""What must be the same in all files under `deploy/`, and what must be in none."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from deploy.balancer import NGINX, written
from deploy.files import (
    COMPOSE,
    DEPLOY,
    KUBERNETES,
    MANIFESTS,
    TEMPLATE,
    interpolated,
    mappings,
    name,
    of_kind,
    read,
    text_files,
)
from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin.app import create_app
from nvrerank_helpers.nim_standin.scoring.engine import Engine
from nvrerank_helpers.nim_standin.server.metrics import Metrics
from nvrerank_helpers.nim_standin.server.service import StandInService

IMAGE = f"nvcr.io/nim/{DEFAULT_MODEL}"
ADAPTER = KUBERNETES / "monitoring" / "adapter-values.yaml"
DOCUMENTED = {
    # Triton's, which a NIM of the 1.x line serves on port 8002 (docs.nvidia.com/nim/nvclip/latest/observability.html)
    "nv_inference_queue_duration_us",
    # of the DCGM exporter (docs.nvidia.com/datacenter/dcgm/latest/gpu-telemetry)
    "DCGM_FI_DEV_GPU_UTIL",
}


def paths() -> set[str]:
    return set(create_app(StandInService(Engine(lambda: None))).openapi()["paths"])


def test_every_file_runs_the_same_image_but_for_the_2x_line() -> None:
    files = [path for path in text_files() if path.suffix != ".md"]
    tags = {name(path): set(re.findall(rf"{IMAGE}:([\w.]+)", path.read_text(encoding="utf-8"))) for path in files}
    used = {file: found for file, found in tags.items() if found}
    assert used.pop("kubernetes/nim-operator-2x/kustomization.yaml") == {"2.3.0"}
    assert set(used) == {"compose/nims.yaml", "kubernetes/nim/deployment.yaml", "kubernetes/nim-operator/nimcache.yaml"}
    assert all(found == {"1.11.0"} for found in used.values())
    image = of_kind("NIMService")["nim-operator"]["spec"]["image"]
    assert (image["repository"], image["tag"]) == (IMAGE, "1.11.0")


@pytest.mark.parametrize("path", text_files(), ids=name)
def test_no_file_holds_a_key(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"nvapi-\w|hf_\w{8}|eyJ\w{8}|-----BEGIN", text)
    for found in re.findall(r"_(?:KEY|TOKEN)[=:] *([^\s]*)", text):
        assert re.match(r"$|\$|…|`|\"?\$\{?NGC_API_KEY", found), found


@pytest.mark.parametrize("path", MANIFESTS, ids=name)
def test_a_secret_is_only_named(path: Path) -> None:
    assert read(path)["kind"] != "Secret"
    secrets = [entry for entry in mappings(read(path)) if re.search("_(KEY|TOKEN)$", str(entry.get("name")))]
    assert all("value" not in entry for entry in secrets)


def test_every_path_that_is_asked_for_is_one_of_the_service() -> None:
    asked = {
        path
        for file in text_files()
        if file != TEMPLATE and file.suffix != ".md"
        for path in re.findall(r"/v1/(?!ranking|models)[a-z]+(?:/[a-z]+)?", file.read_text(encoding="utf-8"))
    }
    assert asked == {"/v1/health/ready", "/v1/health/live", "/v1/metrics"}
    assert asked < paths()


def test_an_autoscaler_looks_at_metrics_that_the_adapter_makes() -> None:
    scaled = {
        value
        for path in MANIFESTS
        for value in re.findall(r"\b\w+_(?:waiting|percent)\b", path.read_text(encoding="utf-8"))
    }
    made = {rule["name"]["as"] for rule in read(ADAPTER)["rules"]["custom"]}
    assert scaled == made


def test_the_adapter_makes_them_of_metrics_that_somebody_serves() -> None:
    used = {rule["seriesQuery"].partition("{")[0] for rule in read(ADAPTER)["rules"]["custom"]}
    standins = used - DOCUMENTED
    assert standins == {"nim_queue_seconds_sum"}
    assert all(f"\n{series} " in Metrics().text() for series in standins)


def test_nobody_scales_on_what_only_an_llm_has() -> None:
    for path in [*MANIFESTS, ADAPTER]:
        assert "gpu_cache_usage_perc" not in str(read(path))


def test_a_rule_gives_what_it_finds_to_the_pods_it_belongs_to() -> None:
    for rule in read(ADAPTER)["rules"]["custom"]:
        labels = rule["resources"]["overrides"]
        assert {label["resource"] for label in labels.values()} == {"namespace", "pod"}
        assert all(f'{label}!=""' in rule["seriesQuery"] for label in labels)
        assert "<<.LabelMatchers>>" in rule["metricsQuery"]
        assert "by (<<.GroupBy>>)" in rule["metricsQuery"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed: on Debian, apt-get install nginx-light")
def test_nginx_accepts_its_configuration_with_the_values_of_the_compose_file() -> None:
    values = read(COMPOSE / "nginx.yaml")["services"]["nginx"]["environment"]
    values = {key: interpolated(value) for key, value in values.items()}
    with tempfile.TemporaryDirectory() as folder:
        begin = written(Path(folder), values)
        run = subprocess.run([NGINX, "-t", "-c", begin], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "warn" not in run.stderr


def test_the_readme_tells_what_every_file_is_for() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in text_files():
        file = name(path)
        assert file == "README.md" or file in text or f"{name(path.parent)}/" in text, f"{file} is not told about"


def test_every_file_that_the_readme_names_is_there() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"deploy/[\w./-]+[\w]", text)
    assert named
    assert [path for path in named if not (DEPLOY.parent / path).exists() and not path.endswith(".env")] == []
