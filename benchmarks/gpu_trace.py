"""Where the time of a torch profiler's trace goes: the GPU's work, its waiting, and its longest kernels."""

import gzip
import json
from collections import Counter
from pathlib import Path

WORK = ("kernel", "gpu_memcpy", "gpu_memset")


def read(trace: Path) -> list[dict]:
    """The events of a trace file, compressed or not."""
    content = trace.read_bytes()
    return json.loads(gzip.decompress(content) if trace.suffix == ".gz" else content)["traceEvents"]


def summary(events: list[dict], steps: int = 1, kernels: int = 16) -> dict:
    """Milliseconds per step from the first work to the last (`span_ms`), with work (`busy_ms`), and by kernel."""
    work = sorted((event for event in events if event.get("cat") in WORK), key=lambda event: event["ts"])
    busy, end = 0.0, 0.0
    for event in work:
        last = event["ts"] + event["dur"]
        busy += max(0.0, last - max(end, event["ts"]))
        end = max(end, last)
    by_name: Counter[str] = Counter()
    for event in work:
        by_name[event["name"][:100]] += event["dur"]
    each = 1000 * steps
    return {
        "span_ms": round((end - work[0]["ts"]) / each, 3),
        "busy_ms": round(busy / each, 3),
        "kernels_ms": {name: round(duration / each, 3) for name, duration in by_name.most_common(kernels)},
    }
