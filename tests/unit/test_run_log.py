"""Which of a log's errors is shown as the reason that a run ended."""

import pytest

from justrl_recipe.run import log
from justrl_recipe.run.log import errors, reason

# As Ray 2.60 writes them, shortened, when a process was killed.
RAYLET = (
    "\x1b[33m(raylet)\x1b[0m A worker died or was killed while executing a task by an unexpected system error. To "
    "troubleshoot the problem, check the logs for the dead worker. Lease ID: 05 Worker ID: ed Node ID: ab Worker IP "
    "address: 192.0.2.2 Worker port: 45165 Worker PID: {pid} Worker exit type: SYSTEM_ERROR\n"
)
ACTOR_DIED = (
    "(AgentLoopWorkerTQ pid=8) ray.exceptions.ActorDiedError: The actor died unexpectedly before it had finished.\n"
    "(AgentLoopWorkerTQ pid=8) \tclass_name: {name}\n(AgentLoopWorkerTQ pid=8) \tactor_id: a4\n"
    "(AgentLoopWorkerTQ pid=8) \tpid: {pid}\n"
)
LOST = (
    "justrl_recipe.verl_hooks.reward_metrics.LostResponsesError: 128 of 128 training responses of step 3 were lost\n"
)
FINALLY = "LostResponsesError: 128 of 128 training responses of step 3 were lost"
DIED = "died: it was killed, the machine was out of memory, or it crashed"


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("fine\nall fine\n", []),
        ("Traceback\nValueError: bad lr\nmore\n", ["ValueError: bad lr"]),
        (
            "\x1b[36m(WorkerDict pid=7)\x1b[0m torch.OutOfMemoryError: CUDA out of memory.\n"
            "ray.exceptions.RayTaskError: it failed\nray.exceptions.ActorDiedError: died\n",
            ["torch.OutOfMemoryError: CUDA out of memory."],
        ),
        ("KeyError: 'x'\nagain\nKeyError: 'x'\nValueError: then this\n", ["KeyError: 'x'", "ValueError: then this"]),
        ("ray.exceptions.ActorDiedError: The actor died\n", ["ray.exceptions.ActorDiedError: The actor died"]),
        ("(WorkerDict pid=7, ip=10.0.0.1) AssertionError\n", ["AssertionError"]),
        ("[rank0]: ModuleNotFoundError: No module named 'x'", ["ModuleNotFoundError: No module named 'x'"]),
    ],
)
def test_the_errors_that_mean_something(tmp_path, log, found):
    file = tmp_path / "train.log"
    file.write_text(log)
    assert errors(file) == found


@pytest.mark.parametrize(
    ("log", "code", "found"),
    [
        ("fine\n", 3, "exit code 3"),
        ("fine\n", -9, "killed by SIGKILL"),
        ("KeyError: 'planted'\n" + LOST, 1, f"KeyError: 'planted'; then {FINALLY}"),
        (  # vLLM's server
            "(vLLMHttpServer pid=9) up\n"
            + RAYLET.format(pid=9)
            + ACTOR_DIED.format(name="vLLMHttpServer", pid=9)
            + LOST,
            1,
            f"vLLMHttpServer (pid 9) {DIED}; then {FINALLY}",
        ),
        (  # a reward worker, which prints nothing
            RAYLET.format(pid=5) + ACTOR_DIED.format(name="RewardLoopWorker", pid=5) + LOST,
            1,
            f"RewardLoopWorker (pid 5) {DIED}; then {FINALLY}",
        ),
        (  # an FSDP worker
            RAYLET.format(pid=7)
            + "(WorkerDict pid=7) ValueError: I/O operation on closed file.\n"
            + ACTOR_DIED.format(name="create_colocated_worker_cls.<locals>.WorkerDict", pid=7),
            1,
            f"WorkerDict (pid 7) {DIED}",
        ),
        (RAYLET.format(pid=3) + ACTOR_DIED.format(name="TaskRunnerV1", pid=3), 1, f"TaskRunnerV1 (pid 3) {DIED}"),
        # Workers that end after an error end because of it.
        (
            "RuntimeError: shape\n" + RAYLET.format(pid=7) + "ValueError: late\n",
            1,
            "RuntimeError: shape; then ValueError: late",
        ),
        ("OSError: [Errno 28] No space left on device\n", 1, "OSError: [Errno 28] No space left on device"),
    ],
    ids=["nothing", "signal", "reward", "vLLM", "reward worker", "FSDP", "task runner", "error first", "disk"],
)
def test_the_first_cause_is_the_reason(tmp_path, log, code, found):
    file = tmp_path / "train.log"
    file.write_text(log)
    assert reason(file, code) == found


def test_a_lost_server_is_the_reason_where_only_ray_says_something(tmp_path):
    file = tmp_path / "train.log"
    file.write_text("ray.exceptions.ActorUnavailableError: it is unavailable\n")
    assert reason(file, 1, "raylet (pid 4)").startswith(f"raylet (pid 4) {DIED}; then ray.exceptions")
    file.write_text("RuntimeError: shape\nray.exceptions.ActorUnavailableError: it is unavailable\n")
    assert "raylet" not in reason(file, 1, "raylet (pid 4)")


def test_a_full_disk_is_the_reason_whatever_the_log_was_cut_off_at(tmp_path, monkeypatch):
    (tmp_path / "train.log").write_text("RuntimeError: something else\n")
    usage = log.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(log.shutil, "disk_usage", lambda path: usage._replace(free=4096))
    assert reason(tmp_path / "train.log", -11) == f"the disk of {tmp_path} is full"
