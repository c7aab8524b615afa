"""The configurations for larger servers parse, and their parts fit together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_a_configuration_is_valid_yaml_without_a_secret(path: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(path.name))
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
    workflow = (FOLDER.parent / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    actions = re.findall(r"uses: *(\S+)", workflow)
    assert actions
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []


def test_the_slow_tests_run_each_night() -> None:
    workflow = yaml.safe_load((FOLDER.parent / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    (schedule,) = workflow[True]["schedule"]  # YAML 1.1 reads the key `on` as true
    assert schedule["cron"].split()[2:] == ["*", "*", "*"]
    assert any("--nightly" in step.get("run", "") for step in workflow["jobs"]["test"]["steps"])
