"""The tables of docs/performance.md, from the raw measurements in benchmarks/results/.

    .venv/bin/python benchmarks/performance.py

h200/steps_*.jsonl are metrics.jsonl files of `verl run`, fork_loss.jsonl what engine.py did on a CPU, the others what
the scripts printed, h200/step_{before,after}.jsonl with the seconds that were predicted for each step.
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


STEPS = {"drawn": "drawn", "4096": "4,096 each", "15360x64": "64 of 15,360, 192 of one"}


def before_after() -> Iterator[str]:
    """Whole steps of 256 responses: with the settings of 0.1.0, and with those of now."""
    seconds = "generation | its last 31 | log-probs | update | rest | step, s"
    yield f"| responses | settings | {seconds} | predicted | MFU | tokens/s | faster |"
    yield f"|---|---|{'---:|' * 10}"
    runs = {name: {run["lengths"]: run for run in lines(f"h200/step_{name}")} for name in ("before", "after")}
    for lengths, responses in STEPS.items():
        for name, run in runs.items():
            found, faster = run[lengths], runs["before"][lengths]["step"] / run[lengths]["step"]
            cells = seconds_of(found)
            cells.insert(1, f"{alone(name):.1f}" if lengths == "drawn" else "")
            cells += [f"{found['predicted_step_s']:.0f}", f"{found['mfu']:.3f}", f"{found['tokens_per_second']:,}"]
            cells = [responses, name, *cells, f"{faster:.2f}" if name == "after" else ""]
            yield f"| {' | '.join(cells)} |"


def as_shipped() -> Iterator[str]:
    """Whole steps of 256 responses: as shipped, the first run on a machine, and then with the settings of 0.1.0."""
    seconds = "generation | log-probs | update | rest | step, s"
    yield f"| responses | settings | {seconds} | MFU | tokens/s | faster |"
    yield f"|---|---|{'---:|' * 8}"
    runs = {(run["lengths"], run["settings"]): run for run in lines("h200/step_as_shipped")}
    for lengths in ("drawn", "4096"):
        for name in ("now", "before"):
            found, faster = runs[lengths, name], runs[lengths, "before"]["step"] / runs[lengths, name]["step"]
            cells = [*seconds_of(found), f"{found['mfu']:.3f}", f"{found['tokens_per_second']:,}"]
            cells = [STEPS[lengths], name, *cells, f"{faster:.2f}" if name == "now" else ""]
            yield f"| {' | '.join(cells)} |"


def seconds_of(step: dict) -> list[str]:
    """Generation, log-probs and update, the rest, and the whole step."""
    phases = [step[phase] for phase in PHASES[:3]]
    return [f"{value:.1f}" for value in (*phases, step["step"] - sum(phases), step["step"])]


def alone(settings: str) -> float:
    """Seconds of generation with fewer than 32 of the drawn responses running."""
    runs = [run for run in lines("h200/response_times") if (run["settings"], run["lengths"]) == (settings, "drawn")]
    ends = sorted(run["end"] for run in runs)
    return ends[-1] - ends[-32]


DECODING = {
    "attention": ("flash::",),
    "matrix products": ("nvjet", "splitKreduce"),
    "sampling": ("gumbel", "direct_copy"),
}


def decode_kernels() -> Iterator[str]:
    """Milliseconds of a decode step by kind of kernel, from vLLM's profiler."""
    yield "| responses at once | attention | matrix products | sampling | others | all |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for run in lines("h200/decode_kernels"):
        parts = [
            sum(ms for name, ms in run["kernels_ms"].items() if any(part in name for part in kind))
            for kind in DECODING.values()
        ]
        cells = [*parts, run["busy_ms"] - sum(parts), run["busy_ms"]]
        yield f"| {run['responses']} | {' | '.join(f'{ms:.2f}' for ms in cells)} |"


def decode_attention() -> Iterator[str]:
    """One layer's attention in a decode step: as vLLM does it, and the fastest other way."""
    yield "| responses x tokens | vLLM's choice, ms | TB/s | Triton's kernel, ms | fastest other setting | ms |"
    yield "|---:|---:|---:|---:|---|---:|"
    runs = lines("h200/decode_attention")
    for responses in dict.fromkeys(run["responses"] for run in runs):
        own, *others = [run for run in runs if run["responses"] == responses]
        triton = min(run["ms"] for run in others if run["kernel"] == "Triton")
        best = min(others, key=lambda run: run["ms"])
        splits = "no splits" if best["splits"] == 1 else f"up to {best['splits']} splits"
        setting = f"{best['layout']}, blocks of {best['block']}, {splits}"
        cells = [f"{own['ms']:.3f}", f"{own['tb_per_second']:.2f}", f"{triton:.3f}", setting, f"{best['ms']:.3f}"]
        yield f"| {responses} | {' | '.join(cells)} |"


ATTENTIONS = {
    "torch_3072": "torch's",
    "fa4_3072": "FlashAttention 4",
    "fa4_3072_32k": "FlashAttention 4, 32,768 tokens a micro-batch",
}


def attention_gradients() -> Iterator[str]:
    """The update's gradient by attention: 16 responses of 3,072 tokens, distance from float32 with padded sdpa."""
    yield "| attention | loss | gradient norm | gradient error |"
    yield "|---|---:|---:|---:|"
    for run in lines("h200/flash_attention_4"):
        if run["name"] in ATTENTIONS:
            cells = f"{run['loss']:.6f} | {run['grad_norm']:.4f} | {run['gradient_error']:.4f}"
            yield f"| {ATTENTIONS[run['name']]} | {cells} |"


AGREEMENTS = {"torch_rollout": "torch's", "fa4_rollout": "FlashAttention 4"}


def attention_agreement() -> Iterator[str]:
    """How far trainer and rollout are apart, by the trainer's attention, on one rollout of 32 responses."""
    yield "| attention | mean difference of probabilities |"
    yield "|---|---:|"
    for run in lines("h200/flash_attention_4"):
        if run["name"] in AGREEMENTS:
            yield f"| {AGREEMENTS[run['name']]} | {run['rollout_probs_diff']:.5f} |"


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
    runs = lines("h200/step_as_shipped")
    [found] = [run for run in runs if (run["settings"], run["lengths"]) == ("now", "drawn")]
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
    before_after,
    as_shipped,
    decode_kernels,
    decode_attention,
    attention_gradients,
    attention_agreement,
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
