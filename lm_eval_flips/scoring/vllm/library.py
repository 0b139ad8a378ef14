"""Is vLLM there, is it new enough, and what helps where it fails to load a model?"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, version

from packaging.version import Version

LOWEST = "0.32"
DEFAULT_MAX_LOGPROBS = 20  # vLLM's own
INSTALL = "pip install 'lm-eval-flips[vllm]'"
# Parts of what vLLM and torch say where memory runs out, in lower case.
OUT_OF_MEMORY = (
    "out of memory",
    "no available memory for the cache",
    "kv cache is needed",
    "free memory on device",
    "can't allocate memory",
    "not enough memory",
    "vllm_cpu_kvcache_space",
    "engine core initialization failed",  # which of them it was stands in its log, above
)


def installed() -> tuple[str, str] | None:
    """The package that holds vLLM, and its version; None where there is none.

    Builds for other processors are published by other names, such as vllm-cpu.
    """
    try:
        return "vllm", version("vllm")
    except PackageNotFoundError:
        others = packages_distributions().get("vllm", [])
        return next(((name, version(name)) for name in others), None)


def unusable(found: tuple[str, str] | None) -> str | None:
    """Why flips-vllm cannot use what is installed, and the way out; None if it can.

    Args:
        found: a package and its version.

    Example:
        >>> unusable(("vllm", "0.31.2"))
        "vllm 0.31.2 is installed, flips-vllm needs 0.32 or newer: pip install 'vllm>=0.32'"
        >>> unusable(("vllm", "0.33.0+cu130")) is None
        True
    """
    if found is None:
        return f"flips-vllm needs vLLM, which is not installed: {INSTALL}"
    name, number = found
    if Version(number) < Version(LOWEST):
        wanted = f"pip install '{name}>={LOWEST}'"
        return f"{name} {number} is installed, flips-vllm needs {LOWEST} or newer: {wanted}"
    if name != "vllm":
        return (
            f"{name} {number} is installed, but lm_eval asks for a package by the name vllm: "
            "install vLLM's own build for this processor, from vLLM's releases"
        )
    return None


def way_out(message: str) -> str:
    """What to set where vLLM says that memory ran out; "" where it says something else.

    Example:
        >>> way_out("Model class not found")
        ''
    """
    if not any(part in message.lower() for part in OUT_OF_MEMORY):
        return ""
    return (
        "; where memory ran out, set max_model_len=… to what the tasks need, "
        "gpu_memory_utilization=… to the share of a GPU that is free, or VLLM_CPU_KVCACHE_SPACE "
        "(GiB) on a CPU"
    )


def refuse_small(max_logprobs: int | None, *, top: int | None) -> str | None:
    """Why vLLM would refuse to give that many tokens, and the way out; None if it would not.

    Example:
        >>> refuse_small(20, top=100)
        'max_logprobs=20 is less than top=100: set max_logprobs=100, or leave it out'
        >>> refuse_small(-1, top=100) is None
        True
    """
    if top is None or max_logprobs is None or max_logprobs < 0 or top <= max_logprobs:
        return None
    enough = f"set max_logprobs={top}, or leave it out"
    return f"max_logprobs={max_logprobs} is less than top={top}: {enough}"
