"""The contract with veRL 0.9.1 and vLLM 0.24.0 on a CPU: each hook, called as they call it."""

import subprocess
import sys
import textwrap

import pytest

from justrl_recipe.cpu.patches import VllmCpuFinder

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

PYTHON = sys.executable


def on_cpu(code: str, **env: str) -> str:
    """Run code in a fresh process with VERL_PLATFORM=cpu, as every process of a run is."""
    import os

    result = subprocess.run(
        [PYTHON, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "VERL_PLATFORM": "cpu", "RAY_ADDRESS": "local", **env},  # never a cluster of other tests
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_importing_verl_is_enough_to_load_the_plugin():
    out = on_cpu("""
        import verl
        from verl.utils.device import get_device_name, get_resource_name, is_support_ipc
        print(get_device_name(), get_resource_name(), is_support_ipc())
    """)
    assert out.split() == ["cpu", "GPU", "False"]


def test_the_plugin_leaves_verl_alone_where_it_is_not_asked():
    out = on_cpu(
        """
        import sys, verl
        from verl.plugin.platform import PlatformRegistry
        print("cpu" in PlatformRegistry.registered_names(), "justrl_recipe.cpu" in sys.modules)
        """,
        VERL_PLATFORM="nvidia",
    )
    assert out.split() == ["False", "False"]


def test_the_platform_has_everything_that_verl_calls():
    out = on_cpu("""
        import torch, verl
        from verl.plugin.platform import get_platform
        from verl.utils.device import get_torch_device, get_device_id
        platform, device = get_platform(), get_torch_device()
        assert torch.ones(1).to(get_device_id()).device.type == "cpu"
        device.set_device(0); device.synchronize(); device.empty_cache(); device.ipc_collect()
        device.reset_peak_memory_stats()
        free, total = device.mem_get_info()
        assert 0 < free <= total
        for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
            assert 0 < getattr(device, name)() < total, name
        assert isinstance(device.get_device_name(), str)
        state = device.get_rng_state()
        first = torch.rand(3); device.set_rng_state(state)
        assert torch.equal(first, torch.rand(3))
        with platform.nvtx_range("step"):
            platform.manual_seed(1)
        print("ok")
    """)
    assert out.split() == ["ok"]


def test_verl_finds_its_fsdp_engine_and_a_process_group():
    out = on_cpu("""
        import os, torch
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29591")
        from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead
        assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is FSDPEngineWithLMHead
        from verl.utils.distributed import initialize_global_process_group_ray
        initialize_global_process_group_ray(timeout_second=None)
        print(torch.distributed.get_backend())
    """)
    assert out.split()[-1] == "cpu:gloo"


def test_the_process_group_patch_refuses_another_verl():
    out = on_cpu("""
        import verl
        from verl.utils import distributed
        from justrl_recipe.cpu import patches
        distributed.initialize_global_process_group_ray = lambda timeout: None
        try:
            patches.make_gloo_groups()
        except RuntimeError as error:
            print(error)
    """)
    assert "not veRL 0.9.1's" in out


def test_verl_finds_vllm_and_vllm_knows_that_it_is_the_cpu_build():
    out = on_cpu("""
        import verl.third_party.vllm as v
        from vllm.platforms import current_platform
        print(v.vllm_version, current_platform.is_cpu())
    """)
    assert out.split()[-2:] == ["0.24.0+cpu", "True"]


def test_another_distribution_is_no_business_of_the_finder():
    from importlib.metadata import DistributionFinder

    assert list(VllmCpuFinder().find_distributions(DistributionFinder.Context(name="torch"))) == []


def test_the_worker_extension_overrides_what_verl_calls():
    out = on_cpu("""
        import inspect
        from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension as Theirs
        from justrl_recipe.cpu.vllm_worker import CpuWorkerExtension
        print(issubclass(CpuWorkerExtension, Theirs))
        print("self._update_weights(" in inspect.getsource(Theirs.update_weights_from_ipc))
        print(*inspect.signature(Theirs._update_weights).parameters)
    """)
    assert out.split()[-6:] == ["True", "True", "self", "weights", "peft_config", "base_sync_done"]


def test_vllm_keeps_a_weight_that_it_does_not_pack():
    """What the extension's switch is for: without it the second load finds an empty parameter."""
    out = on_cpu("""
        import torch, verl.third_party.vllm, vllm._custom_ops as ops
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        kept = []
        for onednn in (ops._supports_onednn, False):
            ops._supports_onednn = onednn
            layer = torch.nn.Linear(32, 32, bias=False)
            dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
            kept.append(layer.weight.numel())
        print(*kept)
    """)
    assert out.split()[-1] == "1024"


def test_the_patches_of_the_worker_refuse_another_vllm_and_another_verl():
    out = on_cpu("""
        import verl.third_party.vllm, vllm._custom_ops as ops
        from justrl_recipe.cpu import patches
        class Worker:
            def _update_weights(self, tensors): ...
        del ops._supports_onednn
        for patch in (patches.keep_plain_weights, lambda: patches.load_copies(Worker)):
            try:
                patch()
            except RuntimeError as error:
                print(error)
    """)
    assert "see keep_plain_weights" in out and "see load_copies" in out


def test_the_worker_loads_copies_of_what_it_is_sent():
    out = on_cpu("""
        import torch
        from justrl_recipe.cpu import patches
        class Theirs:
            def _update_weights(self, weights, peft_config, base_sync_done):
                self.got = weights, peft_config, base_sync_done
        class Ours(Theirs): ...
        patches.load_copies(Ours)
        sent, worker = torch.ones(2), Ours()
        worker._update_weights([("a", sent)], peft_config=None, base_sync_done=True)
        sent.zero_()
        [(name, tensor)], *rest = worker.got
        theirs = Theirs._update_weights is Ours._update_weights
        print(name, tensor.tolist(), rest, theirs)
    """)
    assert out.strip().splitlines()[-1] == "a [1.0, 1.0] [None, True] False"


def test_the_sampler_is_built_as_verl_builds_it_and_reports_the_reward():
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    from justrl_recipe.verl_hooks.reward_metrics import (
        RewardMetricsReplayBuffer,
        group_shares,
        lost_responses,
        mean_rewards,
    )

    sampler = RewardMetricsReplayBuffer(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        sampler_kwargs={"poll_interval": 0.05, "n": 2, "validation_n": 1, "max_lost_share": 0.0},
        refill_fn=None,
    )
    assert isinstance(sampler, ReplayBuffer) and sampler.poll_interval == 0.05
    infos = [{"acc": True, "overlong": False}, {"acc": False, "overlong": True}, {}]
    assert mean_rewards(infos) == {"reward/acc": 0.5, "reward/overlong": 0.5}
    assert mean_rewards([{}]) == {}
    verdicts = {"a": [True, True], "b": [False, False], "c": [True, False], "d": [False, False]}
    keys = [f"{prompt}_{session}_0" for session in range(2) for prompt in verdicts]
    infos = [{"acc": verdicts[key[0]][int(key[2])]} for key in keys]
    assert group_shares(keys, infos) == {"reward/all_right": 0.25, "reward/all_wrong": 0.5}
    assert group_shares(["a_0_0"], [{}]) == {}
    # A score of -1 without an accuracy is none: veRL 0.9.1 takes a bare number for the accuracy.
    assert group_shares(["a_0_0", "a_1_0"], [{"acc": -1.0}, {"acc": -1.0}]) == {
        "reward/all_right": 0.0,
        "reward/all_wrong": 0.0,
    }
    keys = ["a_0_0", "a_1_0", "a_1_1", "b_1_0", "c_0_0"]  # a's second response has two outputs, b lost its first
    assert lost_responses(keys, ["a", "b"], 2) == 1
    assert lost_responses([], ["a", "b"], 2) == 4


def test_ray_workers_have_the_plugin_too():
    out = on_cpu("""
        import ray
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        @ray.remote
        def device():
            import verl
            from verl.utils.device import get_device_name
            return get_device_name()
        print(ray.get(device.remote()))
    """)
    assert out.split()[-1] == "cpu"


def test_runs_on_one_machine_have_sockets_of_their_own():
    """veRL's trainer and vLLM's worker meet at a socket that the Ray job names, and Ray counts jobs from 1."""
    code = """
        import inspect, os, ray
        from justrl_recipe.verl_hooks.patches import number_job
        from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension as Receiver
        from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
        from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

        job = number_job()
        ray.init(num_cpus=1, include_dashboard=False)
        assert job == ray.get(ray.remote(lambda: ray.get_runtime_context().get_job_id()).remote())
        named = "ray.get_runtime_context().get_job_id()"
        assert f"job_id = {named}" in inspect.getsource(ServerAdapter.__init__)
        assert f'os.environ["VERL_RAY_JOB_ID"] = {named}' in inspect.getsource(vLLMHttpServer)
        os.environ["VERL_RAY_JOB_ID"] = job
        worker = type("Worker", (Receiver,), {"__new__": object.__new__, "local_rank": 0, "model_runner": None})()
        assert worker._get_zmq_handle() == f"ipc:///tmp/rl-colocate-zmq-{job}-replica-0-rank-0.sock"
        print(job)
    """
    assert on_cpu(code).split()[-1] != "01000000"
