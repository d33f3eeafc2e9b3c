"""The Kubernetes manifests: against the schemas of their kinds, and for what they promise."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.files import KUBERNETES, MANIFESTS, mappings, name, of_kind, read
from nvrerank_helpers import __version__
from nvrerank_helpers.nim_standin.cli import parse_options

VERSIONS = ["1.30", kubernetes_validate.latest_version()]  # the first that has all of it, and the newest
SCHEMAS = Path(__file__).parent / "schemas"
OURS = {"NIMCache": "nimcache", "NIMService": "nimservice", "ServiceMonitor": "servicemonitor"}
ADAPTER = KUBERNETES / "monitoring" / "adapter-values.yaml"
KUBECTL = shutil.which("kubectl")
FOLDERS = sorted(path.parent for path in MANIFESTS if path.name == "kustomization.yaml")
RESOURCES = [path for path in MANIFESTS if path.name != "kustomization.yaml"]
BUILT_IN = [path for path in RESOURCES if read(path)["kind"] not in OURS]
CUSTOM = [path for path in RESOURCES if read(path)["kind"] in OURS]


def check(manifest: dict[str, Any], version: str = VERSIONS[-1]) -> None:
    """Validate a manifest of any kind; the schemas of Kubernetes are strict: no field that they do not know."""
    if manifest["kind"] in OURS:
        jsonschema.Draft202012Validator(schema(OURS[manifest["kind"]])).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def schema(title: str) -> dict[str, Any]:
    return read(SCHEMAS / f"{title}.yaml")


def pod_of(service: dict[str, Any]) -> dict[str, Any]:
    """Make the pod that the operator makes of a NIMService, as far as its fields are Kubernetes's own."""
    spec = service["spec"]
    probes = {f"{kind}Probe": spec[f"{kind}Probe"]["probe"] for kind in ("startup", "readiness", "liveness")}
    image = f"{spec['image']['repository']}:{spec['image']['tag']}"
    container = {"name": "nim", "image": image, "env": spec["env"], "resources": spec["resources"], **probes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nim"}, "spec": {"containers": [container]}}


def autoscaler_of(service: dict[str, Any]) -> dict[str, Any]:
    """Make the autoscaler that the operator makes of a NIMService."""
    own = service["metadata"]["name"]
    target = {"scaleTargetRef": {"kind": "Deployment", "name": own, "apiVersion": "apps/v1"}}
    spec = target | service["spec"]["scale"]["hpa"]
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": own}, "spec": spec}


def containers() -> dict[str, dict[str, Any]]:
    """Return the containers that rank, by folder."""
    pods = {folder: made["spec"]["template"] for folder, made in of_kind("Deployment").items()}
    pods |= {folder: pod_of(service) for folder, service in of_kind("NIMService").items()}
    return {folder: pod["spec"]["containers"][0] for folder, pod in pods.items()}


def built(folder: Path) -> list[dict[str, Any]]:
    command = [KUBECTL, "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", BUILT_IN, ids=name)
def test_a_manifest_follows_the_schema_of_kubernetes(path: Path, version: str) -> None:
    check(read(path), version)


@pytest.mark.parametrize("path", CUSTOM, ids=name)
def test_a_manifest_of_an_operator_follows_our_schema_of_its_kind(path: Path) -> None:
    check(read(path))


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_schema_of_ours_is_one_and_closed_at_every_level(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(read(path))
    levels = [level for level in mappings(read(path)) if level.get("type") == "object" and "properties" in level]
    assert levels
    assert all(level["additionalProperties"] is False for level in levels)


def test_beside_the_autoscaler_the_operator_takes_no_replicas() -> None:
    service = read(KUBERNETES / "nim-operator" / "nimservice.yaml")
    with pytest.raises(jsonschema.ValidationError):
        check(service | {"spec": service["spec"] | {"replicas": 2}})


def test_what_the_operator_makes_of_the_service_follows_the_schema_of_kubernetes() -> None:
    for service in of_kind("NIMService").values():
        check(pod_of(service))
        check(autoscaler_of(service))


def test_the_values_of_the_adapter_follow_our_schema_of_them() -> None:
    jsonschema.Draft202012Validator(schema("prometheus-adapter")).validate(read(ADAPTER))


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: kubernetes.io/docs/tasks/tools")
@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_is_built_by_kubectl_and_what_comes_out_is_valid(folder: Path) -> None:
    manifests = built(folder)
    assert manifests
    for manifest in manifests:
        check(manifest)
        assert manifest["metadata"]["namespace"] == "reranking"


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: kubernetes.io/docs/tasks/tools")
def test_the_2x_line_is_scaled_by_its_gpu_and_has_no_triton() -> None:
    made = {manifest["kind"]: manifest["spec"] for manifest in built(KUBERNETES / "nim-operator-2x")}
    service = made["NIMService"]
    image = f"{service['image']['repository']}:{service['image']['tag']}"
    assert made["NIMCache"]["source"]["ngc"]["modelPuller"] == image
    assert service["scale"]["hpa"]["metrics"][0]["pods"]["metric"]["name"] == "reranker_gpu_percent"
    assert "metricsPort" not in service["expose"]["service"]


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_names_every_file_that_is_in_it(folder: Path) -> None:
    inside = {path.name for path in RESOURCES if path.parent == folder}
    assert inside == {entry for entry in read(folder / "kustomization.yaml")["resources"] if entry.endswith(".yaml")}


def test_the_service_finds_the_pods_of_every_deployment() -> None:
    (service,) = of_kind("Service").values()
    for deployment in of_kind("Deployment").values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]


def test_what_protects_and_what_watches_the_pods_finds_them() -> None:
    (service,) = of_kind("Service").values()
    own, operators = {"app.kubernetes.io/name": "reranker"}, {"app": "reranker"}
    budgets = of_kind("PodDisruptionBudget")
    assert budgets["base"]["spec"]["selector"]["matchLabels"] == own == service["metadata"]["labels"]
    assert budgets["nim-operator"]["spec"]["selector"]["matchLabels"] == operators
    assert of_kind("ServiceMonitor")["monitoring"]["spec"]["selector"]["matchLabels"] == own
    assert {manifest["metadata"]["name"] for manifest in of_kind("NIMService").values()} == {"reranker"}


def test_the_autoscaler_scales_the_deployment_that_is_there() -> None:
    target = of_kind("HorizontalPodAutoscaler")["base"]["spec"]["scaleTargetRef"]
    for deployment in of_kind("Deployment").values():
        assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
        assert "replicas" not in deployment["spec"]


def test_the_operators_autoscaler_is_that_of_the_others() -> None:
    own, operators = of_kind("HorizontalPodAutoscaler")["base"], autoscaler_of(of_kind("NIMService")["nim-operator"])
    assert own["spec"] == operators["spec"]


def test_the_monitor_asks_ports_that_the_service_has() -> None:
    (service,) = of_kind("Service").values()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in of_kind("ServiceMonitor")["monitoring"]["spec"]["endpoints"]} == ports


@pytest.mark.parametrize("folder", sorted(containers()))
def test_a_probe_asks_a_port_of_its_container_and_gives_it_time(folder: str) -> None:
    container = containers()[folder]
    probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["httpGet"]["port"] for probe in probes} == {"api"}
    assert [probe["httpGet"]["path"] for probe in probes] == ["/v1/health/ready", "/v1/health/ready", "/v1/health/live"]
    if folder != "standin":
        assert probes[0]["periodSeconds"] * probes[0]["failureThreshold"] >= 1200


@pytest.mark.parametrize("folder", sorted(set(containers()) - {"standin"}))
def test_a_nim_has_one_gpu_and_stays_below_a_limit_of_processes(folder: str) -> None:
    container = containers()[folder]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (values["RAYON_NUM_THREADS"], values["TOKENIZERS_PARALLELISM"]) == ("4", "false")


@pytest.mark.parametrize("folder", sorted(of_kind("Deployment")))
def test_a_pod_is_not_root_and_ends_what_it_began(folder: str) -> None:
    pod = of_kind("Deployment")[folder]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + 120


def test_the_stand_in_is_the_image_that_is_built_here_and_understands_its_options() -> None:
    container = containers()["standin"]
    assert container["image"] == f"nvrerank-standin:{__version__}"
    asked = parse_options(container["args"])
    assert (asked.host, asked.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert asked.threads == int(container["resources"]["limits"]["cpu"])
