"""The harness's own `vllm` model, which cannot even be imported without vLLM."""

from __future__ import annotations

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.scoring.vllm.library import installed, unusable

__all__ = ["VLLM"]

if (_why := unusable(installed())) is not None:
    raise HarnessError(_why)
try:
    from lm_eval.models.vllm_causallms import VLLM
except (ImportError, RuntimeError) as error:
    raise HarnessError(
        f"vLLM cannot be imported: {error}; packages of its environment are missing or do not fit "
        "its version of torch"
    ) from error
