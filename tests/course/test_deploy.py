"""The configurations for larger servers parse, and their parts fit together."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.classroom.folder import Chosen

FOLDER = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.name)
def test_a_configuration_is_valid_yaml_without_a_secret(path: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(path.relative_to(FOLDER).as_posix()))
    assert "nvapi-" not in path.read_text(encoding="utf-8")


def test_vllms_parts_find_each_other() -> None:
    claim, deployment, service = documents("vllm.yaml")
    pod = deployment["spec"]["template"]
    assert [d["kind"] for d in (claim, deployment, service)] == ["PersistentVolumeClaim", "Deployment", "Service"]
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    container = pod["spec"]["containers"][0]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_key_of_vllm_comes_from_a_secret() -> None:
    container = documents("vllm.yaml")[1]["spec"]["template"]["spec"]["containers"][0]
    assert "secretKeyRef" in next(e for e in container["env"] if e["name"] == "VLLM_API_KEY")["valueFrom"]


def test_nims_values_name_what_the_chart_needs() -> None:
    (values,) = documents("nim-values.yaml")
    assert {"image", "model", "imagePullSecrets", "persistence", "resources"} <= values.keys()
    assert values["image"]["repository"].startswith("nvcr.io/nim/")


def test_no_image_and_no_action_changes_by_itself() -> None:
    images = re.findall(
        r"(?:image|tag): *(\S+)", "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yaml"))
    )
    assert [image for image in images if image.endswith("latest")] == []
    workflows = sorted((FOLDER.parent / ".github" / "workflows").glob("*.yml"))
    actions = re.findall(r"uses: *(\S+)", "".join(path.read_text(encoding="utf-8") for path in workflows))
    assert actions
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []


def test_the_slow_tests_run_each_night() -> None:
    workflow = yaml.safe_load((FOLDER.parent / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    (schedule,) = workflow[True]["schedule"]  # YAML 1.1 reads the key `on` as true
    assert schedule["cron"].split()[2:] == ["*", "*", "*"]
    assert any("--nightly" in step.get("run", "") for step in workflow["jobs"]["test"]["steps"])


#: What values.yaml uses of the chart's own schema (jupyterhub/values.schema.yaml of Zero to JupyterHub, 4.3): below
#: each name the names that may stand there; None where the chart takes whatever a library or Kubernetes does.
CHART: dict[str, Any] = {
    "hub": dict.fromkeys(("config", "extraEnv", "concurrentSpawnLimit", "services", "loadRoles")),
    "proxy": {"service": {"type": None}},
    "ingress": dict.fromkeys(("enabled", "hosts", "tls")),
    "singleuser": {
        "image": {"name": None, "tag": None},
        "memory": {"guarantee": None, "limit": None},
        "cpu": {"guarantee": None, "limit": None},
        "storage": dict.fromkeys(("capacity", "extraVolumes", "extraVolumeMounts")),
        "cloudMetadata": {"blockWithIptables": None},
        "networkPolicy": {"enabled": None, "egress": None},
        **dict.fromkeys(("cmd", "defaultUrl", "startTimeout", "extraEnv", "extraLabels")),
    },
    "scheduling": {
        "userScheduler": {"enabled": None},
        "podPriority": {"enabled": None},
        "userPlaceholder": {"enabled": None, "replicas": None},
    },
    "prePuller": {"continuous": {"enabled": None}},
    "cull": dict.fromkeys(("enabled", "timeout", "every")),
}


def strangers(values: Any, known: Any, path: str = "") -> list[str]:
    """The names that the chart would refuse."""
    if known is None or not isinstance(values, dict):
        return []
    found = [f"{path}{name}" for name in values if name not in known]
    return found + [
        one for name in values if name in known for one in strangers(values[name], known[name], f"{path}{name}.")
    ]


def test_the_hubs_values_have_no_name_that_the_chart_refuses() -> None:
    (values,) = documents("hub/values.yaml")
    assert strangers(values, CHART) == []
    assert strangers({"cull": {"timout": 1}}, CHART) == ["cull.timout"]


def test_learners_have_what_the_notebooks_need_and_may_ask_the_model_server() -> None:
    (values,) = documents("hub/values.yaml")
    peaks = re.findall(r"\|[^|]*\| ([\d.]+) GiB \|", (FOLDER.parent / "README.md").read_text(encoding="utf-8"))
    assert max(map(float, peaks)) < float(values["singleuser"]["memory"]["limit"].rstrip("G"))
    for role in ("user", "server"):
        assert "access:services!service=slm" in values["hub"]["loadRoles"][role]["scopes"]
    mount, volume = (values["singleuser"]["storage"][name][0] for name in ("extraVolumeMounts", "extraVolumes"))
    assert mount["readOnly"]
    assert mount["name"] == volume["name"]


def test_the_gateway_is_found_where_the_hub_looks_and_has_the_hubs_and_vllms_keys() -> None:
    config, deployment, service, policy = documents("hub/gateway.yaml")
    (values,) = documents("hub/values.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert values["hub"]["services"]["slm"]["url"] == f"http://{name}:{port}"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    assert container["image"] == ":".join(values["singleuser"]["image"][part] for part in ("name", "tag"))
    secrets = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one}
    assert secrets == {"JUPYTERHUB_API_TOKEN": "hub.services.slm.apiToken", "SLM_CLASS_BACKEND_KEY": "key"}
    assert set(tomllib.loads(config["data"]["class.toml"])) <= {field.name for field in fields(Chosen)}


def test_a_codespace_and_the_hubs_image_have_one_dockerfile() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    stages = dict(re.findall(r"(?m)^FROM (\S+) AS (\w+)$", text))
    container = (FOLDER.parent / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    build = json.loads(re.sub(r"(?m)^//.*$", "", container))["build"]
    assert stages["tools"] == "hub"
    assert build["target"] == "tools"
    assert (FOLDER.parent / ".devcontainer" / build["dockerfile"]).resolve() == FOLDER / "Dockerfile"
    assert "--require-hashes" in text
