"""A folder of twenty compressed models of all families, as `run --compress` leaves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lm_eval_flips.compression.naming import scheme
from tests.generators import logs

QUESTIONS = 60
MB = 1_000_000
BASELINE_BYTES = 270 * MB
# by scheme: noise in nats a choice, and megabytes of its weights
MODELS: Mapping[str, tuple[float, int]] = {
    "noise-0.1": (0.8, 270),
    "int8": (0.05, 164),
    "int6": (0.12, 150),
    "int4": (0.5, 112),
    "int3": (1.2, 100),
    "fp8": (0.09, 165),
    "bnb-int8": (0.15, 166),
    "bnb-nf4": (0.55, 115),
    "gptq-w8a16": (0.06, 168),
    "gptq-w4a16": (0.4, 114),
    "gptq-w3a16": (1.0, 101),
    "awq-w4a16": (0.35, 116),
    "ct-w4a16": (0.6, 117),
    "ct-w8a8": (0.3, 169),
    "smoothquant-w8a8": (0.25, 167),
    "rtn-w4": (0.65, 270),
    "magnitude-30": (0.7, 270),
    "wanda-2:4": (1.4, 270),
    "drop-2": (1.6, 250),
    "noise-0.02": (0.1, 270),
}


def write_models(folder: Path, models: Mapping[str, tuple[float, int]] = MODELS) -> list[Path]:
    """Write the runs below FOLDER/runs, the baseline's first, each model's record beside its run."""
    paths = [_write(folder, "baseline", "org/tiny", 0.0, seed=0)]
    for seed, (name, (noise, size)) in enumerate(models.items(), 1):
        own = scheme(name)
        paths.append(_write(folder, own.file_name, f"org/tiny-{own.file_name}", noise, seed=seed))
        bits = None if np.isnan(own.bits) else own.bits
        record = {
            **dict.fromkeys(("dtype", "calibration")),
            "version": 1,
            "scheme": name,
            "family": own.recipe.family,
            "does": own.does,
            "bits": bits,
            "library": own.recipe.library.name,
            "versions": {},
            "source": "tiny",
            "source_sha256": {},
            "asked_dtype": "auto",
            "seed": 0,
            "seconds": 1.0,
            "proof": _proof(size * MB),
        }
        (paths[-1] / "compression.json").write_text(json.dumps(record))
    return paths


def _write(folder: Path, name: str, model: str, noise: float, *, seed: int) -> Path:
    base = np.random.default_rng(7).normal(-6, 1.5, (QUESTIONS, 4))
    moved = base + noise * np.random.default_rng([seed, 1]).normal(size=base.shape)
    gold = np.where(np.random.default_rng(8).random(QUESTIONS) < 0.6, base.argmax(1), 2)
    records = [
        logs.choice(i, np.minimum(row, -0.01).tolist(), gold=int(right), question=f"{i}?")
        for i, (row, right) in enumerate(zip(moved, gold, strict=True))
    ]
    config = {
        "model": "hf",
        "model_args": {"pretrained": model},
        "model_num_parameters": BASELINE_BYTES // 2,
        "model_dtype": "torch.bfloat16",
    }
    logs.write_run(folder / "runs" / name, {"facts": records}, model=model, config=config)
    return folder / "runs" / name


def _proof(size: int) -> dict[str, object]:
    return {
        "perplexity": 20.0,
        "baseline_perplexity": 19.0,
        "kl": 0.01,
        **dict.fromkeys(("reload_kl", "reload_difference")),
        "bytes": size,
        "baseline_bytes": BASELINE_BYTES,
        "bits_on_disk": 8.0,
        "faults": [],
    }
