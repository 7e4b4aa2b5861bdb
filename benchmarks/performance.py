"""The tables of docs/performance.md, from the raw measurements in benchmarks/results/.

    .venv/bin/python benchmarks/performance.py

h200/steps_*.jsonl are metrics.jsonl files of `verl run`, h200/drawn_before.jsonl and h200/drawn_after.jsonl when the
responses of a step of step.py ran, fork_loss.jsonl what engine.py did on a CPU, the others what the scripts printed.
Of whole steps the first is left out: it compiles kernels.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from justrl_recipe.config import Request, load
from justrl_recipe.planning import cost

RESULTS = Path(__file__).parent / "results"
RUNS = {
    "baseline, 64 responses of 4,096": "h200/steps_baseline_4096",
    "ours, 64 responses of 4,096": "h200/steps_4096",
    "ours, 64 responses of 15,360": "h200/steps_15360",
    "ours, 256 responses of 4,096": "h200/steps_4096_of_256_every_token",
    "as shipped, 256 responses of 4,096": "h200/steps_4096_of_256",
}
PHASES = ("gen", "old_log_prob", "update_actor", "update_weights")
# Dense bf16 TFLOP/s and TB/s by the vendor's datasheets: what the estimates for other GPUs scale by.
CHIPS = {"h200x1": (989, 4.8), "h100x8": (989, 3.35), "a800x32": (312, 2.04)}


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def medians(name: str) -> dict[str, float]:
    """Each metric's median over the steps after the first."""
    steps = [line["data"] for line in lines(name)[1:]]
    return {key: median(step[key] for step in steps) for key in steps[0]}


def settings() -> Iterator[str]:
    """Each change by itself, on one batch."""
    yield "| setting | log-probs, s | update, s | predicted | MFU | GiB | gradient norm | gradient error | rollout |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for run in lines("h200/engine"):
        error, predicted, off = run["gradient_error"], run["predicted_update_s"], run["rollout_probs_diff"]
        cells = [
            run["name"],
            f"{run['log_prob_s']:.2f}",
            f"{run['update_s']:.2f}",
            f"{predicted:.1f}" if predicted else "",
            f"{run['mfu']:.3f}",
            f"{run['peak_gib']:.1f}",
            f"{run['grad_norm']:.4f}",
            f"{error:.4f}" if error else "",
            f"{off:.4f}" if off else "",
        ]
        yield f"| {' | '.join(cells)} |"


def steps() -> Iterator[str]:
    """Whole steps of `verl run`, phase by phase."""
    yield "| run | generation | old log-probs | update | weights | rest | step, s | MFU | tokens/s | trainer, GiB |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for title, name in RUNS.items():
        found = medians(name)
        phases, step = [found[f"timing_s/{phase}"] for phase in PHASES], found["timing_s/step"]
        seconds = " | ".join(f"{value:.1f}" for value in [*phases, step - sum(phases), step])
        peak = found["actor/perf/max_memory_allocated_gb"]
        rate = f"{found['perf/mfu/actor']:.3f} | {found['perf/throughput']:,.0f}"
        yield f"| {title} | {seconds} | {rate} | {peak:.1f} |"


def speedups() -> Iterator[str]:
    before, after = (medians(name) for name in ("h200/steps_baseline_4096", "h200/steps_4096"))
    trained = [run["timing_s/old_log_prob"] + run["timing_s/update_actor"] for run in (before, after)]
    whole = [run["timing_s/step"] for run in (before, after)]
    yield "| at 4,096 tokens | baseline, s | ours, s | times faster |"
    yield "|---|---:|---:|---:|"
    for title, (theirs, ours) in {"old log-probs and update": trained, "whole step": whole}.items():
        yield f"| {title} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |"


def agreement() -> Iterator[str]:
    """How far the trainer's probabilities are from vLLM's, in each run."""
    yield "| run | mean difference of probabilities | largest | correlation | KL, nats | entropy |"
    yield "|---|---:|---:|---:|---:|---:|"
    for title, name in RUNS.items():
        found = medians(name)
        off = [found[f"training/rollout_probs_diff_{which}"] for which in ("mean", "max")]
        alike, kl = found["training/rollout_actor_probs_pearson_corr"], found["rollout_corr/kl"]
        yield f"| {title} | {off[0]:.1e} | {off[1]:.1e} | {alike:.4f} | {kl:.4f} | {found['actor/entropy']:.4f} |"


def rollout() -> Iterator[str]:
    yield "| responses at once | every token handed over | final output alone | times faster |"
    yield "|---:|---:|---:|---:|"
    rates = {(run["responses"], run["outputs"]): run["tokens_per_second"] for run in lines("h200/rollout")}
    for count in sorted({count for count, _ in rates}):
        every, final = rates[count, "every token"], rates[count, "final output"]
        yield f"| {count} | {every:,} | {final:,} | {final / every:.2f} |"


def decoding() -> Iterator[str]:
    """vLLM's V2 runner alone, 1,024 tokens each."""
    yield "| responses at once | with log-probs | without | times faster | ms a decode step without |"
    yield "|---:|---:|---:|---:|---:|"
    rates = {(run["responses"], run["outputs"]): run["tokens_per_second"] for run in lines("h200/rollout_v2")}
    for count in sorted({count for count, _ in rates}):
        final, bare = rates[count, "final output"], rates[count, "no log-probs"]
        yield f"| {count} | {final:,} | {bare:,} | {bare / final:.2f} | {1000 * count / bare:.1f} |"


def drawn_step() -> Iterator[str]:
    """A whole step of 256 responses with lengths as in the paper's figure."""
    yield "| mean length | generation | old log-probs | update | weights | rest | step, s | MFU | tokens/s |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for run in lines("h200/drawn_step")[1:]:
        seconds = [*(run[phase] for phase in PHASES), run["adv"] + run["rest"], run["step"]]
        cells = [f"{run['mean_length']:,.0f}", *(f"{value:.1f}" for value in seconds), f"{run['mfu']:.3f}"]
        yield f"| {' | '.join(cells)} | {run['tokens_per_second']:,} |"


def before_after() -> Iterator[str]:
    """Whole steps of 256 responses on the two GPUs of a host at once: the settings of 0.1.0, and the fastest ones."""
    seconds = "generation | its last 31 | log-probs | update | rest | step, s"
    yield f"| responses | settings | {seconds} | MFU | tokens/s | faster |"
    yield f"|---|---|{'---:|' * 9}"
    runs = {name: [line["data"] for line in lines(f"h200/steps_{name}")] for name in ("before", "after")}
    for number, responses in ((1, "drawn"), (2, "4,096 each")):
        whole = [run[number]["timing_s/step"] for run in runs.values()]
        for name, run in runs.items():
            found = run[number]
            phases, step = [found[f"timing_s/{phase}"] for phase in PHASES[:3]], found["timing_s/step"]
            cells = [f"{value:.1f}" for value in (*phases, step - sum(phases), step)]
            cells.insert(1, f"{alone(name):.1f}" if responses == "drawn" else "")
            cells += [f"{found['perf/mfu/actor']:.3f}", f"{found['perf/throughput']:,.0f}"]
            cells = [responses, name, *cells, f"{whole[0] / whole[1]:.2f}" if name == "after" else ""]
            yield f"| {' | '.join(cells)} |"


def alone(name: str) -> float:
    """Seconds of generation with fewer than 32 of the drawn responses running."""
    ends = sorted(run["end"] for run in lines(f"h200/drawn_{name}"))
    return ends[-1] - ends[-32]


def context() -> Iterator[str]:
    """vLLM's V2 runner alone, without log-probs, 1,024 tokens each."""
    yield "| worker | longest sequence | 32 responses at once | 256 |"
    yield "|---|---:|---:|---:|"
    workers = {"mp": "a process of its own", "uni": "in the engine's process"}
    rates = {
        (run["executor"], run["context"], run["responses"]): run["tokens_per_second"]
        for run in lines("h200/rollout_context")
    }
    for executor, longest, _ in sorted(key for key in rates if key[2] == 32):
        few, many = rates[executor, longest, 32], rates[executor, longest, 256]
        yield f"| {workers[executor]} | {longest:,} | {few:,} | {many:,} |"


START = {
    "fork_server_starts": "the command: config and checks",
    "imports_end": "the fork server's imports",
    "server_starts": "data, trainer",
    "engine_starts": "vLLM's server",
    "compiled": "vLLM's weights and compiled graphs",
    "graphs_captured": "memory, CUDA graphs",
    "kernels_compiled": "Triton's kernels",
    "first_step_begins": "the rest",
}


def start() -> Iterator[str]:
    """Seconds from the command to the first step, by the times of two runs' logs."""
    runs = lines("h200/start")
    yield f"| seconds for | {' | '.join(run['run'] + ' run' for run in runs)} |"
    yield f"|---|{'---:|' * len(runs)}"
    before = None
    for name, what in START.items():
        spent = (run[name] - (run[before] if before else 0) for run in runs)
        yield f"| {what} | {' | '.join(f'{seconds:.1f}' for seconds in spent)} |"
        before = name
    yield f"| all | {' | '.join(format(run[before], '.1f') for run in runs)} |"


NAMES = {"torch_15360": "16 responses of 15,360", "torch_4096": "64 of 4,096"}
KERNELS = {
    "attention": "pytorch_flash",
    "matrix products": "nvjet",
    "head: log-probs and entropy": "efficient_entropy",
}


def update_kernels() -> Iterator[str]:
    """One mini-batch's update by kind of kernel, from torch's profiler."""
    profiles = [run for run in lines("h200/update_kernels") if "profile" in run]
    yield f"| share of the time | {' | '.join(NAMES[run['profile']] for run in profiles)} |"
    yield f"|---|{'---:|' * len(profiles)}"
    parts = [
        {kind: sum(ms for name, ms in run["kernels_ms"].items() if part in name) for kind, part in KERNELS.items()}
        for run in profiles
    ]
    for run, part in zip(profiles, parts, strict=True):
        part["others"] = run["busy_ms"] - sum(part.values())
        part["the GPU waits"] = run["span_ms"] - run["busy_ms"]
    for kind in parts[0]:
        shares = (f"{part[kind] / run['span_ms']:.0%}" for run, part in zip(profiles, parts, strict=True))
        yield f"| {kind} | {' | '.join(shares)} |"
    yield f"| seconds | {' | '.join(format(run['span_ms'] / 1000, '.1f') for run in profiles)} |"


def estimated(system: str) -> float:
    """Tokens per second and GPU on a system: the measured phases of 256 responses of drawn lengths, by datasheets.

    Generation scales with memory bandwidth, log-probs and update with bf16 arithmetic, the rest not at all.
    """
    found = lines("h200/drawn_step")[-1]
    (flops, bandwidth), (ours, theirs) = CHIPS["h200x1"], CHIPS[system]
    generation, trained = found["gen"], found["old_log_prob"] + found["update_actor"]
    rest = found["step"] - generation - trained
    tokens = found["tokens_per_second"] * found["step"]
    return tokens / (generation * bandwidth / theirs + trained * flops / ours + rest)


def full_recipe() -> Iterator[str]:
    yield "| system | tokens/s and GPU | GPU hours | days |"
    yield "|---|---:|---:|---:|"
    for system in CHIPS:
        config = load(Request("justrl_deepseek", system)).values
        gpus = config["trainer"]["nnodes"] * config["trainer"]["n_gpus_per_node"]
        hours = cost.gpu_hours(config, cost.expected_length(config), estimated(system))
        yield f"| {system} | {estimated(system):,.0f} | {hours:,.0f} | {hours / gpus / 24:,.1f} |"


def sharding() -> Iterator[str]:
    """One mini-batch of the recipe on one GPU and sharded over two."""
    yield "| GPUs and setting | log-probs, s | update, s | MFU | speed of the update per GPU | GiB | gradient norm |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    found = [run for run in lines("h200/fsdp") if run["tokens"] == 512 * 576]
    alone = found[0]["update_s"]
    for run in found:
        cells = [
            run["name"],
            f"{run['log_prob_s']:.2f}",
            f"{run['update_s']:.2f}",
            f"{run['mfu']:.3f}",
            f"{alone / run['gpus'] / run['update_s']:.2f}",
            f"{run['peak_gib']:.0f}",
            f"{run['grad_norm']:.4f}",
        ]
        yield f"| {' | '.join(cells)} |"


def controller() -> Iterator[str]:
    """What responses of 4 tokens cost: veRL's timers, and what is outside generation, log-probs and update."""
    yield "| machine | responses a step | generation | log-probs | update | weight sync | advantages and the rest |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for run in lines("controller"):
        phases = [
            run["gen"],
            run["old_log_prob"],
            run["update_actor"],
            run["update_weights"],
            run["adv"] + run["rest"],
        ]
        cells = " | ".join(f"{seconds:.2f}" for seconds in phases)
        yield f"| {run['machine']} | {run['responses']:,} | {cells} |"


def losses() -> Iterator[str]:
    """One batch, two ways to take the token-mean, each with one micro-batch and with many."""
    yield "| loss of | tokens a micro-batch | loss | gradient norm | gradient's distance from the first |"
    yield "|---|---:|---:|---:|---:|"
    for run in lines("fork_loss"):
        found = f"{run['loss']:.4f} | {run['grad_norm']:.3f} | {run['gradient_error']:.1e}"
        yield f"| {run['loss_of']} | {run['budget']:,} | {found} |"


TABLES = (
    settings,
    steps,
    speedups,
    agreement,
    rollout,
    decoding,
    context,
    drawn_step,
    before_after,
    update_kernels,
    start,
    full_recipe,
    sharding,
    controller,
    losses,
)

if __name__ == "__main__":
    for table in TABLES:
        print(*table(), "", sep="\n")
