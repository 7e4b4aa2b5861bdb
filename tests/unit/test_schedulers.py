"""examples/kubernetes, examples/skypilot and docker/: fields, shell code, and that the parts fit one another.

The schemas hold the fields that the files use, as KubeRay 1.6, Kubernetes 1.30 and SkyPilot 0.14 document them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from command import verl

ROOT = Path(__file__).parents[2]
SLURM = (ROOT / "examples/slurm/justrl.sbatch").read_text()
CLAIM, RAYJOB = yaml.safe_load_all((ROOT / "examples/kubernetes/justrl.yaml").read_text())
TASK = yaml.safe_load((ROOT / "examples/skypilot/justrl.yaml").read_text())
DOCKERFILE = ROOT / "docker/Dockerfile"


def fields(required: str, optional: str = "", **types: Any) -> dict[str, Any]:
    """The schema of an object with no other fields than these; one without a type of its own is a string."""
    names = [*required.split(), *optional.split()]
    properties = {name: types.get(name, {"type": "string"}) for name in names}
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


WHOLE = {"type": "integer", "minimum": 0}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
CONTAINER = fields(
    "name image resources volumeMounts",
    "env",
    env=listed(fields("name value")),
    resources=fields("limits requests", limits=STRINGS, requests=STRINGS),
    volumeMounts=listed(fields("name mountPath")),
)
POD = fields(
    "containers volumes",
    "restartPolicy securityContext",
    containers=listed(CONTAINER),
    volumes=listed(
        fields("name persistentVolumeClaim", persistentVolumeClaim=fields("claimName")),
    ),
    securityContext=fields("fsGroup", fsGroup=WHOLE),
)
GROUP: dict[str, Any] = {"template": fields("spec", spec=POD), "rayStartParams": STRINGS}
CLUSTER = fields(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    authOptions=fields("mode", mode={"enum": ["token", "disabled"]}),
    headGroupSpec=fields("template rayStartParams", **GROUP),
    workerGroupSpecs=listed(
        fields(
            "groupName replicas minReplicas maxReplicas template rayStartParams",
            **GROUP,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
        )
    ),
)
JOB = fields(
    "entrypoint backoffLimit shutdownAfterJobFinishes rayClusterSpec",
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes={"type": "boolean"},
    rayClusterSpec=CLUSTER,
)
RESOURCES = fields(
    "accelerators job_recovery",
    job_recovery=fields(
        "max_restarts_on_errors recover_on_exit_codes",
        max_restarts_on_errors=WHOLE,
        recover_on_exit_codes={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    ),
)
SCHEMA = {
    "rayjob": (RAYJOB, fields("apiVersion kind metadata spec", metadata=fields("name"), spec=JOB)),
    "skypilot": (
        TASK,
        fields(
            "name workdir num_nodes resources volumes envs secrets setup run",
            num_nodes={"type": "integer", "minimum": 1},
            resources=RESOURCES,
            volumes=STRINGS,
            envs=STRINGS,
            secrets={"type": "object", "additionalProperties": {"type": "null"}},
        ),
    ),
}


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, f"{name} is missing: make install"
    return found


@pytest.mark.parametrize("name", SCHEMA)
def test_the_fields_are_documented_ones(name: str):
    document, schema = SCHEMA[name]
    jsonschema.validate(document, schema)


def slurm(pattern: str) -> str:
    found = re.search(pattern, SLURM, re.MULTILINE)
    assert found is not None
    return found[1]


def in_kubernetes() -> tuple[int, int, str]:
    cluster = RAYJOB["spec"]["rayClusterSpec"]
    limits = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    nodes = 1 + sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    return nodes, int(limits["nvidia.com/gpu"]), RAYJOB["spec"]["entrypoint"]


# Nodes, GPUs a node, and the command, of which the last simple command is verl's.
LAUNCHES = {
    "slurm": (
        int(slurm(r"^#SBATCH --nodes=(\d+)")),
        int(slurm(r"^#SBATCH --gpus-per-node=(\d+)")),
        f"verl run {slurm('^recipe=(.*)')} --system {slurm('^system=(.*)')} --out /shared/{slurm('^out=(.*?) ')}"
        " --resume",
    ),
    "kubernetes": in_kubernetes(),
    "skypilot": (TASK["num_nodes"], int(TASK["resources"]["accelerators"].split(":")[1]), TASK["envs"]["COMMAND"]),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_run_takes_the_gpus_that_are_asked_for_and_is_justrl(name: str, tmp_path: Path):
    nodes, gpus, command = LAUNCHES[name]
    arguments = shlex.split(command)
    arguments = arguments[arguments.index("verl") + 1 :]
    assert "--resume" in arguments
    assert arguments[arguments.index("--out") + 1].startswith("/shared/")
    done = verl(*arguments, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "deviation" not in done.stderr
    trainer = yaml.safe_load(done.stdout)["trainer"]
    assert (trainer["nnodes"], trainer["n_gpus_per_node"]) == (nodes, gpus)


def test_the_pods_have_the_locked_ray_and_the_claimed_volume():
    cluster = RAYJOB["spec"]["rayClusterSpec"]
    assert f"\nray=={cluster['rayVersion']} " in (ROOT / "requirements/gpu.txt").read_text()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == [
            CLAIM["metadata"]["name"]
        ]
        assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == ["/shared"]


@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck_finds_nothing_in_the_task(part: str):
    # SC2086: $COMMAND is words. SC1091: nothing is sourced.
    command = [tool("shellcheck"), "--shell=bash", "--exclude=SC2086", "-"]
    done = subprocess.run(command, input=TASK[part], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing():
    done = subprocess.run([tool("hadolint"), DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_package_builds_from_what_the_image_copies(tmp_path: Path):
    """As the builder sees it: what .dockerignore leaves of the folder, and of that what COPY names."""
    context = tmp_path / "context"
    context.mkdir()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.*)", DOCKERFILE.read_text(), re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert f"!{source.split('/')[0]}" in ignored, f"{source} is ignored"
            if source.startswith("requirements/"):
                assert all((ROOT / source.replace("$ENVIRONMENT", name)).is_file() for name in ("gpu", "cpu"))
            elif (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, context / target, symlinks=True)
            else:
                shutil.copy(ROOT / source, context / target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(context)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "justrl_recipe/recipes/justrl.yaml" in zipfile.ZipFile(wheel).namelist()
