"""A scheme made in this process, without its proof: what the tests of makers look at."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.compression.calibration import calibration_texts
from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.naming import scheme

Make = Callable[..., Any]


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Make a scheme of the tiny model in memory."""

    def made(name: str, *, seed: int = 0, source: Path = tiny_model) -> Any:
        wanted = scheme(name)
        making = Making(
            source=source,
            name=name,
            parameters=wanted.parameters,
            dtype="float32",
            seed=seed,
            texts=calibration_texts(seed=seed).texts[:4],
            folder=tmp_path,
        )
        module, _, function = wanted.recipe.make.rpartition(".")
        return getattr(import_module(f"lm_eval_flips.compression.{module}"), function)(making)

    return made
