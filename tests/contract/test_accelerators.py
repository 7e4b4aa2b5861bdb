"""What a run on this machine's GPUs is told before it starts; the GPUs are those of a stand-in for nvidia-smi."""

from types import SimpleNamespace

import psutil
import pytest
from nvidia_driver import driver

from justrl_recipe.checks import accelerators
from justrl_recipe.config import Request, load

L40S = "NVIDIA L40S, 46068, 45900, 8.9"


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("system", "key", "says"),
    [
        ("a800x32", "trainer.nnodes", "4 nodes are wanted"),
        ("h200x1", "trainer.n_gpus_per_node", "1 wanted, and torch finds 0 here"),
    ],
)
def test_a_run_without_its_gpus_or_its_cluster_does_not_start(tmp_path, monkeypatch, system, key, says):
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = accelerators.problems(load(Request("justrl_deepseek", system)).values)
    assert (problem.level, problem.key) == ("error", key) and says in problem.why


@pytest.mark.parametrize(
    ("system", "of", "level", "key"),
    [
        ("h100x8", "NVIDIA H200, 143771, 143150, 9.0", "error", "trainer.n_gpus_per_node"),
        ("h200x1", L40S, "warning", "machine.name"),
        ("h200x1", "NVIDIA H200, 143771, 143150, 9.0", None, None),
    ],
)
def test_other_gpus_than_the_system_s_are_named(tmp_path, monkeypatch, system, of, level, key):
    monkeypatch.setenv("PATH", driver(tmp_path, 1, of))
    values = load(Request("justrl_deepseek", system)).values
    assert [(p.level, p.key) for p in accelerators.problems(values)] == ([(level, key)] if level else [])
    assert {(p.level, p.key) for p in accelerators.warnings(values)} == ({("warning", key)} if level else set())


def test_a_choice_that_hides_the_gpus_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    (problem,) = accelerators.problems(load(Request("justrl_deepseek", "h200x1")).values)
    assert problem.level == "error" and "CUDA_VISIBLE_DEVICES=7" in problem.why


def test_a_run_on_the_cpu_needs_no_gpu():
    assert list(accelerators.problems(load(Request("justrl_tiny")).values)) == []


@pytest.mark.parametrize(("free_gib", "warned"), [(20, True), (30, False)])
def test_a_machine_without_room_for_offloaded_state_is_named(tmp_path, monkeypatch, free_gib, warned):
    monkeypatch.setenv("PATH", driver(tmp_path, 1, "NVIDIA GeForce RTX 4090, 24564, 24100, 8.9"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free_gib * 2**30))
    values = load(Request("justrl_deepseek", "rtx4090x1")).values
    assert ["26.5 GiB" in problem.why for problem in accelerators.problems(values)] == [True] * warned
