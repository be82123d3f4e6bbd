"""The files that start clusters, checked without a cloud: by Ray's schema, the model of EC2, the schema of
KubeRay, hadolint and shellcheck. Each check is shown to find a mistake.

`rayjob.json` is the schema of a RayJob of KubeRay 1.7.0 (Apache 2.0), made strict: unknown keys are errors.
Descriptions, and the insides of what our file does not use, are left out.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from botocore.validate import ParamValidator
from click import NoSuchOption
from ray._private.runtime_env import packaging
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

from survey import __version__
from tests.processes import ROOT

CLUSTERS = ("cluster.yaml", "cluster/local.yaml")
EC2 = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
SCHEMA = json.loads(Path(__file__).with_name("rayjob.json").read_text())


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def ray_errors(cluster: dict[str, Any]) -> str:
    try:
        validate_config(prepare_config(deepcopy(cluster)))
    except (jsonschema.ValidationError, ValueError) as error:
        return str(error)
    return ""


def ec2_errors(node: dict[str, Any]) -> str:
    report = ParamValidator().validate(node | {"MinCount": 1, "MaxCount": 1}, EC2)
    known = EC2.members["InstanceType"].enum
    unknown = "" if node.get("InstanceType") in known else f"no instance type {node.get('InstanceType')}"
    return f"{report.generate_report()}{unknown}"


def kuberay_errors(document: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(document)]


def start_commands(cluster: dict[str, Any]) -> Iterator[list[str]]:
    """The options of each `ray start` in a file of `ray up`."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in cluster[key]:
            words = shlex.split(command)
            if "start" in words:
                yield words[words.index("start") + 1 :]


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).with_name(name)
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_accepts_the_files_of_ray_up(name: str) -> None:
    cluster = read(name)
    assert ray_errors(cluster) == ""
    assert "max_wokers" in ray_errors(cluster | {"max_wokers": 2})
    assert ray_errors(cluster | {"idle_timeout_minutes": "soon"})
    for options in start_commands(cluster):
        start.make_context("start", list(options))
        with pytest.raises(NoSuchOption):
            start.make_context("start", [*options, "--adress=x"])


def test_amazon_knows_every_setting_of_the_nodes() -> None:
    nodes = {name: kind["node_config"] for name, kind in read("cluster.yaml")["available_node_types"].items()}
    assert {name: ec2_errors(node) for name, node in nodes.items()} == dict.fromkeys(nodes, "")
    node = nodes["cpu"]
    assert "InstanceTyp" in ec2_errors(node | {"InstanceTyp": "m7i.large"})
    assert "VolumeSize" in ec2_errors(node | {"BlockDeviceMappings": [{"Ebs": {"VolumeSize": "100"}}]})
    assert ec2_errors(node | {"InstanceType": "m7i.lrage"}) == "no instance type m7i.lrage"


def test_workers_are_on_spot_and_the_head_is_not_and_all_disks_are_encrypted() -> None:
    cluster = read("cluster.yaml")
    kinds = cluster["available_node_types"]
    spot = {
        name for name, kind in kinds.items()
        if kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    }  # fmt: skip
    assert spot == kinds.keys() - {cluster["head_node_type"]}
    assert kinds["head"]["resources"]["CPU"] == 0  # a task on the head would be in the way of drivers
    for kind in kinds.values():
        assert all(disk["Ebs"]["Encrypted"] for disk in kind["node_config"]["BlockDeviceMappings"])
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) == cluster["max_workers"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_asks_for_a_token_and_shows_its_dashboard_to_itself_only(name: str) -> None:
    text, cluster = (ROOT / name).read_text(), read(name)
    assert "RAY_AUTH_MODE=token" in text
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    heads = [options for options in start_commands(cluster) if "--head" in options]
    assert heads
    assert all("--dashboard-host=127.0.0.1" in options for options in heads)


def test_kuberay_knows_every_key() -> None:
    document = read("cluster/kuberay.yaml")
    assert kuberay_errors(document) == []
    document["spec"]["shutdownAfterJobFinish"] = True
    assert any("shutdownAfterJobFinish" in error for error in kuberay_errors(document))
    document = read("cluster/kuberay.yaml")
    document["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert any("maxReplica" in error for error in kuberay_errors(document))
    document = read("cluster/kuberay.yaml")
    document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    assert any("imag" in error for error in kuberay_errors(document))


def test_versions_agree() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert read("cluster/kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pinned["ray"]
    short = __version__.rpartition(".")[0]
    names = ("Dockerfile", "cluster.yaml", "cluster/kuberay.yaml", "docs/cluster.md")
    tags = [tag for name in names for tag in re.findall(r"survey:([\d.]+)", (ROOT / name).read_text())]
    assert len(tags) >= 4
    assert set(tags) == {short}


def test_hadolint_accepts_the_image(tmp_path: Path) -> None:
    done = tool("hadolint", str(ROOT / "Dockerfile"))
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((ROOT / "Dockerfile").read_text().replace("--yes ", ""))
    assert "DL3014" in tool("hadolint", str(wrong)).stdout


def test_a_login_shell_of_the_image_finds_the_program() -> None:
    """`ray up` runs login shells in the container. /etc/profile of Debian forgets the PATH of the image."""
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    path = re.findall(r"^ENV PATH=(.*?):\$PATH", last_stage, re.M)
    line = re.findall(r"(echo .*) > /etc/profile.d/\w+\.sh", last_stage)
    assert (len(path), len(line)) == (1, 1)
    shown = subprocess.run(
        ["sh", "-c", f'PATH=/usr/bin:/bin; eval "$({line[0]})"; echo "$PATH"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == f"{path[0]}:/usr/bin:/bin"


def test_the_image_holds_the_package_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    text = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY ([^-].*)$", text, re.M) for name in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    shipped = re.findall(r'"survey\.\w+": "(\w+)"', (ROOT / "setup.py").read_text())
    assert {"survey", *shipped} <= copied
    assert "USER 1000" in text


def test_the_folder_that_a_job_takes_along_is_small(tmp_path: Path) -> None:
    package = tmp_path / "package.zip"
    packaging.create_package(str(ROOT), package, excludes=[], include_gitignore=True)
    assert package.stat().st_size < packaging.GCS_STORAGE_MAX_SIZE / 10
    listed = zipfile.ZipFile(package).namelist()
    assert {"jobs/train.py", "survey/command.py", "recipes/cemp.yaml"} <= set(listed)
    assert not [name for name in listed if name.startswith((".git/", "tests/", ".venv/"))]


def slurm(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The Slurm script on one node, where every command writes down its arguments."""
    programs = {
        "scontrol": "echo node1; echo node2",
        "srun": 'echo "srun $*" >>"$LOG"; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        ".venv/bin/ray": 'echo "ray $*" >>"$LOG"',
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "LOG": str(tmp_path / "log"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "16",
    }
    return subprocess.run(
        [ROOT / "cluster" / "slurm.sh", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_for_slurm_starts_ray_on_all_nodes_and_gives_the_job_its_arguments(tmp_path: Path) -> None:
    done = slurm(tmp_path, "ingest", "cemp", "input=/data/my files", "prepare.grid={start: 1}")
    assert done.returncode == 0, done.stderr
    *_, command = (tmp_path / "log").read_text().splitlines()
    options, _, job = command.removeprefix("ray symmetric-run ").partition(" -- ")
    assert job == "survey ingest cemp input=/data/my files prepare.grid={start: 1}"
    words = options.split()
    assert words[:2] == ["--address", f"node1:{20000 + os.getpid() % 10000}"]
    start_options = curate_and_validate_ray_start_args([*words, "--", "survey"])
    start.make_context("start", [word for word in start_options if word not in ("--", "survey")])
    assert "ray get-auth-token --generate" in (tmp_path / "log").read_text()
    assert slurm(tmp_path).returncode == 2  # no job is named
    assert (tmp_path / f"ray-{os.getpid()}").is_dir()


def test_shellcheck_accepts_the_script_for_slurm(tmp_path: Path) -> None:
    script = ROOT / "cluster" / "slurm.sh"
    done = tool("shellcheck", str(script))
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.sh"
    wrong.write_text(script.read_text().replace('survey "$@"', "survey $@"))
    assert "SC2068" in tool("shellcheck", str(wrong)).stdout
