"""The entry points of the built package: lm_eval finds the model and every metric by them.

The metrics are those of the list of sample values, read from its source: building needs no torch.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LIST = "lm_eval_flips/pairs/sample_values.py"
PLUGIN = "lm_eval_flips.harness.plugin"


def entry_points(root: Path) -> dict[str, dict[str, str]]:
    """The groups of entry points, by the package's own list.

    Args:
        root: the folder of pyproject.toml.
    """
    metrics, aggregations = {}, {}
    for call in ast.walk(ast.parse((root / LIST).read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "SampleValue":
            continue
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        parts = [*call.args, *[named[name] for name in ("aggregation",) if name in named]]
        if len(parts) < 4:
            continue  # summed up by nothing, the harness's table does not show it
        key = ast.literal_eval(named.get("shown_as", call.args[0]))
        metrics[key] = f"{PLUGIN}:METRICS.{key}"
        if ast.unparse(parts[3]) not in ("MEAN", "Aggregation.MEAN"):
            aggregations[key] = f"{PLUGIN}:NOT_MEANS.{key}"
    return {
        "lm_eval.models": {
            "flips-hf": "lm_eval_flips.harness.models.flips_hf:FlipsHF",
            "flips-gguf": "lm_eval_flips.harness.models.flips_gguf:FlipsGGUF",
            "flips-vllm": "lm_eval_flips.harness.models.flips_vllm:FlipsVLLM",
        },
        "lm_eval.metrics": metrics,
        "lm_eval.aggregations": aggregations,
    }


class EntryPoints(MetadataHookInterface):  # type: ignore[misc]  # not installed with the tests
    """Adds them to the metadata that hatchling reads."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the entry points."""
        metadata["entry-points"] = entry_points(Path(self.root))
