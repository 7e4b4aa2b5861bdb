"""Joining a Ray cluster, as far as it goes without Ray."""

import hashlib
import json
from pathlib import Path

import pytest
from command import verl
from omegaconf import OmegaConf

from justrl_recipe import paths
from justrl_recipe.cpu import ON_THIS_MACHINE
from justrl_recipe.errors import UserError
from justrl_recipe.run import cluster
from justrl_recipe.run.nodes import Demand, described
from justrl_recipe.run.provenance import data_files


@pytest.mark.parametrize(
    ("given", "in_config", "variable", "joined"),
    [
        (None, None, None, None),
        (None, None, "", None),
        (None, None, "local", None),
        (None, None, "10.0.0.1:6379", "10.0.0.1:6379"),
        (None, "auto", None, "auto"),
        (None, "local", "10.0.0.1:6379", None),
        ("local", None, "10.0.0.1:6379", None),
        ("10.0.0.2:6379", "auto", "10.0.0.1:6379", "10.0.0.2:6379"),
    ],
)
def test_which_cluster_a_run_joins(monkeypatch, given, in_config, variable, joined):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    config = {"ray_kwargs": {"ray_init": {"address": in_config} if in_config else None}}
    assert cluster.address(given, config) == joined


def test_ray_client_is_refused():
    with pytest.raises(UserError, match="HOST:6379"):
        cluster.address("ray://10.0.0.1:10001")


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.parquet", "reward.py"):
        Path(name).touch()
    given = {
        "data": {"train_files": ["train.parquet", "gone.parquet"], "val_files": "hdfs://host/val.parquet"},
        "actor_rollout_ref": {"model": {"path": "deepseek-ai/a-model-on-the-hub", "tokenizer_path": None}},
        "reward": {"custom_reward_function": {"path": "file://reward.py", "name": "f"}},
        "trainer": {"default_local_dir": "runs/x/checkpoints", "rollout_data_dir": "s3://bucket/rollouts"},
    }
    config = OmegaConf.create(given)
    paths.make_absolute(config)
    assert config.data == {
        "train_files": [f"{tmp_path}/train.parquet", "gone.parquet"],
        "val_files": "hdfs://host/val.parquet",
    }
    assert config.actor_rollout_ref.model.path == "deepseek-ai/a-model-on-the-hub"
    assert config.reward.custom_reward_function.path == f"{tmp_path}/reward.py"
    assert config.trainer.default_local_dir == f"{tmp_path}/runs/x/checkpoints"
    assert config.trainer.rollout_data_dir == "s3://bucket/rollouts"
    assert paths.of(given, paths.READ) == [f"{tmp_path}/train.parquet", f"{tmp_path}/reward.py"]


def test_veRLs_groups_fit_on_nodes_and_not_across_them():
    wanted = Demand({"GPU": 4.0, "CPU": 12.0}, 1)
    assert wanted.groups_on([{"GPU": 8, "CPU": 96}, {"GPU": 6, "CPU": 96}]) == 3
    assert wanted.groups_on([{"GPU": 8, "CPU": 12}, {"CPU": 96}]) == 1


def asked(here: dict, **changes) -> dict:
    """The answer of a node that has all, but for `changes`."""
    there = json.loads(json.dumps(here))
    there["sizes"].update(changes.pop("sizes", {}))
    there["versions"].update(changes.pop("versions", {}))
    counts = {"GPU": 8.0, "CPU": 96.0}
    return {"name": "b (10.0.0.2, c0ffee)", "total": counts, "free": counts, "found": there, **changes}


def test_what_a_node_lacks_is_named(tmp_path):
    data, mark = tmp_path / "train.parquet", tmp_path / f"{cluster.MARK}x"
    data.write_bytes(b"12345")
    mark.touch()
    here = described(map(str, (data, mark, tmp_path)))
    assert list(cluster.of_node(asked(here), here)) == []

    def said(**changes) -> str:
        (problem,) = cluster.of_node(asked(here, **changes), here)
        assert problem.level == ("unchecked" if changes == {"found": None} else "error")
        return str(problem)

    assert f"node b (10.0.0.2, c0ffee): no {data}:" in said(sizes={str(data): None})
    assert f"{data} has 4 bytes, 5 on" in said(sizes={str(data): 4})
    assert f"{tmp_path} is another folder than on" in said(sizes={str(mark): None})
    assert "torch: 2.10.0 there, " in said(versions={"torch": "2.10.0"})
    assert "files of justrl-recipe: abc there" in said(versions={"files of justrl-recipe": "abc"})
    assert "No module named 'justrl_recipe'" in said(found={"error": "No module named 'justrl_recipe'"})
    assert "no answer within 10 seconds" in said(found=None)


BACKEND = {"storage_backend": "SimpleStorage", "SimpleStorage": {"num_data_storage_units": 8}}
QUEUE = {"transfer_queue": {"backend": BACKEND}}


@pytest.mark.parametrize(
    ("cpus", "enough"),
    [
        *[([33], True), ([32], False), ([29, 64], True), ([28, 64], False), ([29, 29], True)],  # 4 units, controller
        ([96, 96, 0], False),  # a head node that offers none, as with KubeRay, where TransferQueue puts a unit
    ],
)
def test_each_node_needs_cpus_for_its_part_of_the_queue(cpus, enough):
    here = described([])
    gpus = [8.0 if free else 0.0 for free in cpus]
    config = {"trainer": {"device": "cuda", "nnodes": sum(map(bool, gpus)), "n_gpus_per_node": 8}, **QUEUE}
    nodes = [asked(here, free={"GPU": gpu, "CPU": float(free)}) for gpu, free in zip(gpus, cpus, strict=True)]
    found = list(cluster.problems(cluster.Cluster("10.0.0.1:6379", False, nodes, here), config))
    assert [p.key.rpartition(".")[2] for p in found] == ([] if enough else ["num_data_storage_units"])


@pytest.mark.parametrize(("nodes", "fix"), [(2, None), (3, "wait for the other job"), (5, "add nodes")])
def test_too_few_accelerators_are_named_with_who_has_how_many(nodes, fix):
    here = described([])
    answers = [asked(here), asked(here), asked(here, free={"GPU": 2.0, "CPU": 96.0})]
    config = {"trainer": {"device": "cuda", "nnodes": nodes, "n_gpus_per_node": 8}, **QUEUE}
    found = list(cluster.problems(cluster.Cluster("10.0.0.1:6379", False, answers, here), config))
    assert [fix in str(problem) for problem in found] == ([True] if fix else [])
    assert all("2 of 8 GPU" in str(problem) and "room for 2" in str(problem) for problem in found)


def test_too_few_cpus_for_the_accelerators_are_a_matter_of_counting():
    here = described([])
    few = {"GPU": 8.0, "CPU": 23.0}
    config = {"trainer": {"device": "cuda", "nnodes": 1, "n_gpus_per_node": 8}, **QUEUE}
    nodes = [asked(here, free=few, total=few)]
    (problem,) = cluster.problems(cluster.Cluster("10.0.0.1:6379", False, nodes, here), config)
    assert "--num-cpus" in problem.fix and "lower" not in problem.fix


OTHER = {"versions": {}, "sizes": {}, "machine": "another"}


@pytest.mark.parametrize("found", [OTHER, {"versions": {}, "sizes": {}}, {"error": "no such package"}, None])
def test_a_cluster_is_on_this_machine_where_each_of_its_nodes_is(found):
    here = described([])
    ours, theirs = asked(here), asked(here, found=found)
    for nodes, expected in (([ours, ours], True), ([ours, theirs], False)):
        joined = cluster.Cluster("10.0.0.1:6379", False, nodes, here)
        assert joined.on_this_machine is (ON_THIS_MACHINE in joined.environment) is expected


def test_a_file_is_recorded_with_its_hash_wherever_it_lies(tmp_path):
    file = tmp_path / "train.parquet"
    file.write_bytes(b"rows")
    found = data_files({"data": {"train_files": [str(file), "missing.parquet"], "val_files": None}})
    sha = hashlib.sha256(b"rows").hexdigest()
    assert found == {"data.train_files": [{"path": str(file), "sha256": sha}], "data.val_files": []}


def test_a_plan_counts_nodes(tmp_path):
    command = ("plan", "justrl_deepseek", "--system", "h100x8")
    one = verl(*command, cwd=tmp_path).stdout.splitlines()
    four = verl(*command, "trainer.nnodes=4", cwd=tmp_path).stdout.splitlines()
    assert "8 x H100-80GB, 80 GiB each" in one[0] and "32 x H100-80GB on 4 nodes, 80 GiB each" in four[0]
    days = [next(line for line in found if line.startswith("GPU hours")).split("days on")[1] for found in (one, four)]
    assert [int(line.split(",")[0]) for line in days] == [8, 32]
