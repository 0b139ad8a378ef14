"""The harness's own `vllm` model, which cannot be imported without vLLM."""

from __future__ import annotations

from typing import Any

from lm_eval.api.model import TemplateLM

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.scoring.vllm.library import installed, unusable

_why = unusable(installed())
try:
    from lm_eval.models import vllm_causallms

    VLLM: Any = vllm_causallms.VLLM
except (ImportError, RuntimeError) as error:
    VLLM = TemplateLM  # what is made of it is refused
    _why = _why or (
        f"vLLM cannot be imported: {error}; packages of its environment are missing or do not fit "
        "its version of torch"
    )


def refuse_unusable() -> None:
    """Refuse to go on without vLLM, or with one that cannot be used.

    Raises:
        HarnessError: saying what to install.
    """
    if _why is not None:
        raise HarnessError(_why)
