"""Every patch of veRL, vLLM, Ray, torch and TransferQueue on veRL's side; those of the CPU stand in cpu/.

Each docstring says what goes wrong without it, why, why the patch is safe, and when to delete it.
"""

import functools
import importlib
import inspect
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from justrl_recipe import checkpoints, masking


@contextmanager
def class_ids_from_the_system() -> Iterator[None]:
    """Have the actor classes that are defined inside take their ids from the system's random numbers.

    Symptom: processes that are forks of one call the same actor, which ends: `Check failed: erased == 1`.
    Cause: Ray 2.60 seeds its generator when it makes its first id, and defining an actor class makes one
        (ray/actor.py, _make_actor). Where that is before the fork, all forks give their tasks the same ids.
    Safe: a class's id is random bytes either way, and forks share their classes.
    Guard: forkserver.py compares the ids that two forks make.
    Upstream: none filed. Delete when Ray seeds its generator in each fork.
    """
    from ray import actor

    ids: Any = actor.ActorClassID
    vars(actor)["ActorClassID"] = SimpleNamespace(from_random=lambda: ids(os.urandom(ids.size())))
    try:
        yield
    finally:
        vars(actor)["ActorClassID"] = ids


def threads_as_ray_says() -> None:
    """Have torch compute with as many threads as Ray gives an actor, in a process that has imported it before.

    Symptom: each response takes an agent loop 0.1 s longer on 16 cores, since the loops' threads wait for each other.
    Cause: Ray 2.60 sets OMP_NUM_THREADS in an actor before its class is loaded, to the CPUs that the actor holds, or
        to 1. torch reads it when it is imported, which the fork server has done.
    Safe: a process that imports torch by itself computes with as many. One with a GPU keeps all threads, since an
        optimizer in the host's memory computes with them.
    Upstream: none filed. Delete with the fork server.

    Raises:
        RuntimeError: Ray has changed.
    """
    utils: Any = importlib.import_module("ray._private.utils")
    original = getattr(utils, "set_omp_num_threads_if_unset", None)
    if original is None:
        raise RuntimeError("Ray gives an actor its threads otherwise: see threads_as_ray_says")

    def set_omp_num_threads_if_unset() -> bool:
        import ray

        has_set = original()
        if has_set and not any(ray.get_runtime_context().get_accelerator_ids().values()):
            take_threads_from_environment()
        return has_set

    utils.set_omp_num_threads_if_unset = set_omp_num_threads_if_unset


def take_threads_from_environment() -> None:
    """Have torch compute with OMP_NUM_THREADS threads, where it was imported under another number."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if "torch" in sys.modules and threads.isdecimal() and int(threads):
        sys.modules["torch"].set_num_threads(int(threads))


def listen_on_loopback() -> None:
    """Have torch's TCPStore listen on loopback alone where its clients come by loopback.

    Symptom: the store of each process group of a run on one machine (FSDP's, vLLM's engine's) listens on all
        addresses, and takes commands without a check.
    Cause: torch 2.11 binds the store to all addresses, whatever host it is asked for (torch/csrc, socket.cpp).
    Safe: the listener is ours, on the port that was asked for; the clients connect to the same loopback address.
    Upstream: none filed. Delete when torch binds to the host that it is given.

    Raises:
        RuntimeError: torch has changed.
    """
    import torch
    from torch.distributed import TCPStore

    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")  # the package hides it by a function
    original = getattr(rendezvous, "_create_c10d_store", None)
    if original is None:
        raise RuntimeError(f"torch {torch.__version__} makes its TCPStore elsewhere: see listen_on_loopback")
    if original.__module__ == __name__:
        return

    def create(hostname: str, port: int, rank: int, world_size: int, timeout: Any, use_libuv: bool = True) -> Any:
        if rank != 0 or rendezvous._torchelastic_use_agent_store() or not _is_loopback(hostname):
            return original(hostname, port, rank, world_size, timeout, use_libuv)
        family = socket.AF_INET6 if ":" in hostname else socket.AF_INET
        listener = socket.create_server((hostname, port), family=family, backlog=socket.SOMAXCONN)
        return TCPStore(
            host_name=hostname,
            port=listener.getsockname()[1],
            world_size=world_size,
            is_master=True,
            timeout=timeout,
            multi_tenant=True,
            master_listen_fd=listener.detach(),  # the store's own from here on
            use_libuv=use_libuv,
        )

    rendezvous._create_c10d_store = create


def _is_loopback(hostname: str) -> bool:
    try:
        return hostname == "localhost" or ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


def key_of_the_server_alone() -> None:
    """Take vLLM's key out of the environment, so that this process's server has it, and the engine below it does not.

    Symptom: every run compiles vLLM's graphs and kernels again, most of a minute, and its key stands in
        ~/.cache/vllm (cache_key_factors.json).
    Cause: vLLM 0.24 counts VLLM_API_KEY among what compiled code depends on (`compile_factors` in vllm/envs.py).
    Safe: only the server reads the key, by the name in `vllm.envs` that this sets (`build_app` in
        vllm/entrypoints/openai/api_server.py). Other code of a run's workers does not find it in the environment.
    Upstream: none filed. Delete when vLLM leaves the variable out.

    Raises:
        RuntimeError: vLLM has changed.
    """
    import vllm.envs

    if "VLLM_API_KEY" not in vllm.envs.environment_variables:
        raise RuntimeError("vLLM reads its key elsewhere: see key_of_the_server_alone")
    if key := os.environ.pop("VLLM_API_KEY", None):
        vllm.envs.environment_variables["VLLM_API_KEY"] = lambda: key


def guard_trackers(shown: Mapping[masking.Path, Any]) -> None:
    """Have veRL make and call its trackers (wandb, TensorBoard, ...) by verl_hooks/trackers.py, without secrets.

    Symptom: an API key of the config is uploaded, a run ends since a tracker fails, a resumed run is another one.
    Cause: veRL 0.9.1 gives its trackers the whole config (verl/trainer/ppo/v1/trainer_base.py, fit), and calls them
        unguarded (verl/utils/tracking.py).
    Safe: trackers only record; veRL's own code makes each of them.
    Upstream: none filed. Delete when veRL masks what it tracks, and goes on without a tracker.

    Args:
        shown: what is shown at the paths of the config's secrets.

    Raises:
        RuntimeError: veRL has changed.
    """
    from verl.utils.tracking import Tracking, ValidationGenerationsLogger

    from justrl_recipe.verl_hooks import trackers

    original, log_responses = Tracking.__init__, ValidationGenerationsLogger.log
    expected = ["self", "project_name", "experiment_name", "default_backend", "config"]
    if list(inspect.signature(original).parameters) != expected or not hasattr(Tracking, "__del__"):
        raise RuntimeError("veRL makes its trackers otherwise: see guard_trackers")
    guarded: dict[str, trackers.Guarded] = {}

    def make(told: trackers.Trackers, project: str, name: str) -> Any:
        told.before(name, project)
        alone = object.__new__(Tracking)
        try:
            original(alone, project, told.name, [name], told.config_for(name))
            if not alone.logger:
                raise RuntimeError("it could not be started, see train.log")
            [made] = alone.logger.values()
        finally:
            alone._finished = True  # else the end of `alone` would end the tracker
        told.after(name, made)
        return made

    def init(self: Any, project_name: str, experiment_name: str, default_backend: Any, config: Any) -> None:
        names = [default_backend] if isinstance(default_backend, str) else list(default_backend)
        original(self, project_name, experiment_name, [name for name in names if name in trackers.OURS], config)
        others = ["wandb" if name == "tracking" else name for name in names if name not in trackers.OURS]
        if others:
            folder = Path(os.environ["VERL_FILE_LOGGER_PATH"]).parent
            told = trackers.Trackers(folder, experiment_name, config, shown)
            told.set_environment()
            started = functools.partial(make, told, masking.for_others(project_name))
            for name in others:
                guarded[name] = trackers.Guarded(name, folder, functools.partial(started, name))
            self.logger.update(guarded)

    def log(self: Any, loggers: Any, samples: Any, step: int) -> None:
        for name, tracker in guarded.items():
            if tracker.is_used:
                tracker.call(log_responses, self, [name], samples, step)

    Tracking.__init__ = init
    ValidationGenerationsLogger.log = log


def append_metrics() -> None:
    """Have veRL's file logger append to the metrics file.

    Symptom: a run that resumes loses the metrics of its earlier attempts.
    Cause: veRL 0.9.1 opens the file anew (verl/utils/tracking.py, FileLogger).
    Safe: run/ leaves only the lines of earlier steps in it.
    Upstream: none filed. Delete when veRL appends.

    Raises:
        RuntimeError: veRL has changed.
    """
    from verl.utils.tracking import FileLogger

    if "VERL_FILE_LOGGER_PATH" not in inspect.getsource(FileLogger.__init__):
        raise RuntimeError("veRL names the file of its file logger otherwise: see append_metrics")

    def init(self: Any, project_name: str, experiment_name: str) -> None:
        self.filepath = os.environ["VERL_FILE_LOGGER_PATH"]
        self.fp = open(self.filepath, "ab", buffering=0)  # noqa: SIM115  # as long as the run

    FileLogger.__init__ = init


def load_shards_of_other_world_sizes() -> None:
    """Have veRL's FSDP workers load a checkpoint that another number of GPUs saved.

    Symptom: FileNotFoundError where a run resumes on another number of GPUs.
    Cause: veRL 0.9.1 loads the files of its own world size (verl/utils/checkpoint/fsdp_checkpoint_manager.py).
    Safe: veRL's own code loads the checkpoints of the same world size.
    Upstream: none filed. Delete when veRL saves by torch.distributed.checkpoint.

    Raises:
        RuntimeError: veRL has changed.
    """
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

    from justrl_recipe.verl_hooks import resharding

    original = FSDPCheckpointManager.load_checkpoint
    if "model_world_size_{self.world_size}_rank_{self.rank}.pt" not in inspect.getsource(original):
        raise RuntimeError("veRL names its shards otherwise: see load_shards_of_other_world_sizes")

    def load_checkpoint(self: Any, local_path: str | None, *arguments: Any, **named: Any) -> None:
        if local_path and (ranks := checkpoints.world_size(Path(local_path))) != self.world_size:
            resharding.load(self, Path(local_path), ranks)
        else:
            original(self, local_path, *arguments, **named)

    FSDPCheckpointManager.load_checkpoint = load_checkpoint


def gather_output_matrix() -> None:
    """Have FSDP2 hold an output matrix that veRL's fused log-probs read among the model's outermost weights.

    Symptom: `got mixed torch.Tensor and DTensor` in the first pass, with `strategy=fsdp2`, `use_fused_kernels` and an
        output matrix that is not the embedding.
    Cause: veRL 0.9.1 shards that matrix as a module of its own (verl/utils/fsdp_utils.py), which FSDP2 gathers when
        it is called; the fused path reads its weight and never calls it (verl/models/transformers/dense_common.py).
    Safe: FSDP2 gathers what no other module has for the whole forward and backward pass, as where the matrix is the
        embedding. It is then in memory whole.
    Upstream: none filed. Delete when veRL's fused log-probs run with FSDP2 and an untied matrix.

    Raises:
        RuntimeError: veRL has changed.
    """
    from verl.utils import fsdp_utils

    original = getattr(fsdp_utils, "_select_fsdp2_wrap_targets", None)
    if original is None:
        raise RuntimeError("veRL chooses otherwise what FSDP2 wraps: see gather_output_matrix")

    def select(model: Any, layers: list[str]) -> list[Any]:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # under LoRA
        fused = type(inner).forward.__module__ == "verl.models.transformers.dense_common"
        head = inner.get_output_embeddings() if fused else None
        return [module for module in original(model, layers) if module is not head]

    fsdp_utils._select_fsdp2_wrap_targets = select


def number_job() -> str:
    """Give the run a Ray job number that no other run on this machine has, and return it as Ray writes it.

    Symptom: two runs on one machine hang, or one rolls out with the weights of the other.
    Cause: veRL 0.9.1 sends weights to vLLM through /tmp/rl-colocate-zmq-JOB-... (verl/workers/rollout/vllm_rollout),
        and each run has a Ray cluster of its own, in which Ray 2.60 counts jobs from 1.
    Safe: Ray takes any job number below 2^31 that its cluster has not seen.
    Upstream: none filed. Delete when the socket's name is the run's own.

    Raises:
        RuntimeError: Ray has changed.
    """
    import ray
    from ray._private import state

    if not hasattr(state, "next_job_id"):
        raise RuntimeError(f"Ray {ray.__version__} does not number jobs as Ray 2.60 does: see number_job")
    job_id = ray.JobID.from_int(secrets.randbits(31))
    state.next_job_id = lambda: job_id
    return job_id.hex()


def separate_queues() -> None:
    """Have each run on a Ray cluster use a TransferQueue of its own.

    Symptom: a second run on a cluster takes and gives the first one's batches; when one ends, the other fails.
    Cause: TransferQueue 0.1.11 looks for its controller in the fixed Ray namespace `transfer_queue`
        (transfer_queue/interface.py), which all jobs of a cluster share.
    Safe: without a namespace Ray takes the job's own, in which all processes of a run are.
    Upstream: none filed. Delete when the namespace is the job's.

    Raises:
        RuntimeError: TransferQueue has changed.
    """
    import ray
    from transfer_queue import interface

    controller: Any = interface.TransferQueueController
    if inspect.getsource(interface).count('namespace="transfer_queue"') != 2:
        raise RuntimeError("TransferQueue names its controller otherwise: see separate_queues")

    class RayOfThisJob:
        """`ray` as transfer_queue/interface.py uses it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ray, name)

        def get_actor(self, name: str, namespace: str) -> Any:
            return ray.get_actor(name)

    options = controller.options
    controller.options = lambda **given: options(**{**given, "namespace": None})
    interface.ray = RayOfThisJob()


def transfer_with_own_threads() -> None:
    """Have TransferQueue compute with the threads of its process.

    Symptom: after its first response an agent loop computes with the threads of all cores again, and the loops wait
        for each other as in threads_as_ray_says.
    Cause: TransferQueue 0.1.11 gives torch up to 16 threads for each put and get, and so for all that is computed
        until it ends. Then it sets the number that torch had at TransferQueue's import, which is all cores in a fork
        (`limit_pytorch_auto_parallel_threads` of transfer_queue/utils/common.py).
    Safe: the number of threads changes no bit of a copy.
    Upstream: none filed. Delete when TransferQueue raises no number of threads.

    Raises:
        RuntimeError: TransferQueue has changed.
    """
    name = "limit_pytorch_auto_parallel_threads"
    for module in ("transfer_queue.client", "transfer_queue.storage.simple_storage"):
        user = vars(importlib.import_module(module))
        if name not in user:
            raise RuntimeError(f"{module} chooses its threads otherwise: see transfer_with_own_threads")
        user[name] = lambda **_: nullcontext()
