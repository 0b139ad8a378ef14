"""Runs that cannot be compared, or only in other settings, and what is said of it."""

from __future__ import annotations

import json
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.comparison.compatibility import (
    refuse_device,
    refuse_other_model,
    setting_differences,
)
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.logs.runs import load_run
from tests.comparison.test_compare import QUESTIONS, pair_of_runs
from tests.generators import logs


def changed(results: Path, **changes: Any) -> Path:
    """The results with another value at each key; "a__b" is b within a."""
    found = json.loads(results.read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        place = found
        for name in above:
            place = place[name]
        place[last] = value
    results.write_text(json.dumps(found))
    return results


# Runs that agree in everything


def test_identical_runs_are_refused_unless_allowed(tmp_path: Path) -> None:
    """Two runs that agree in every digit flip nothing, and are an error unless asked for."""
    same = [(b, b, gold) for b, _, gold in QUESTIONS]
    paths = pair_of_runs(tmp_path, same)
    with pytest.raises(FlipsError, match=r"agrees with the baseline in every log-likelihood"):
        compare(*paths)
    row = compare(*paths, allow_identical=True).compressed[0].pooled
    assert row.flips is not None
    assert row.distances is not None
    assert (row.flips.flips, row.distances.choice_kl.max) == (0.0, 0.0)
    assert isnan(row.p_value)


def test_the_identity_check_sees_the_last_digit(tmp_path: Path) -> None:
    """Control: one log-likelihood that differs in its last digit is not identical."""
    same = [(b, b, gold) for b, _, gold in QUESTIONS]
    nearly = np.nextafter(-3.0, 0)
    same[0] = (same[0][0], (-1.0, -2.0, float(nearly)), 0)
    assert compare(*pair_of_runs(tmp_path, same)).compressed[0].pooled.n == 8


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    """A path given twice is no comparison, however it is written."""
    base, _ = pair_of_runs(tmp_path)
    for again in (base, base.parent, tmp_path / "comp" / ".." / "base"):
        with pytest.raises(FlipsError, match="agrees with the baseline"):
            compare(base, again)


def test_generated_answers_may_all_agree(tmp_path: Path) -> None:
    """They have no log-likelihoods to tell two runs by: a run of its own is none of the baseline's."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.text(i, "4") for i in range(5)]})
        for name in ("base", "int8")
    ]
    assert compare(*paths).compressed[0].pooled.n == 5
    with pytest.raises(FlipsError, match="agrees with the baseline"):
        compare(paths[0], paths[0])


def test_one_task_that_moved_is_enough(tmp_path: Path) -> None:
    """Two tasks of which one agrees in every digit: no cache was shared."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {
                "kept": [logs.choice(i, [-1.0, -2.0]) for i in range(4)],
                "moved": [logs.choice(i, [-1.0 - shift, -2.0]) for i in range(4)],
            },
        )
        for name, shift in (("base", 0.0), ("int8", 0.25))
    ]
    assert compare(*paths, metric="acc").compressed[0].pooled.n == 8
    with pytest.raises(FlipsError, match="agrees with the baseline"):
        compare(*paths, metric="acc", tasks="kept")


# Settings


def test_settings_that_differ_are_reported(tmp_path: Path) -> None:
    """A batch size and a model argument that differ are named with both values; names are not."""
    base, comp = pair_of_runs(tmp_path)
    changed(comp, config__batch_size="64", config__model_args__load_in_4bit=True)
    found = {
        d.setting: (d.baseline, d.compressed) for d in compare(base, comp).settings_that_differ
    }
    assert found == {"batch_size": ("8", "64"), "model_args.load_in_4bit": (None, True)}


def test_every_run_s_settings_are_its_own(tmp_path: Path) -> None:
    """Two compressed runs: each difference names the run that it is of."""
    base, first = pair_of_runs(tmp_path / "a")
    _, second = pair_of_runs(tmp_path / "b")
    changed(second, max_length=1024)
    found = compare(base, first, second).settings_that_differ
    assert [(d.setting, d.baseline, d.compressed, d.run) for d in found] == [
        ("max_length", 512, 1024, str(second))
    ]
    assert setting_differences(load_run(base), load_run(first)) == []


def test_versions_and_shots_matter_where_both_runs_have_the_task(tmp_path: Path) -> None:
    """Those of a task that only one run holds are no difference between the two."""
    records = {name: [logs.choice(0, [-1.0, -2.0])] for name in ("shared", "extra")}
    base = logs.write_run(tmp_path / "base", {"shared": records["shared"]})
    comp = changed(
        logs.write_run(tmp_path / "comp", records), versions__shared=2.0, versions__extra=3.0
    )
    shots = json.loads(comp.read_text())["n-shot"] | {"shared": 5}
    changed(comp, **{"n-shot": shots})
    found = setting_differences(load_run(base), load_run(comp))
    assert {(d.setting, d.baseline, d.compressed) for d in found} == {
        ("version.shared", 1.0, 2.0),
        ("num_fewshot.shared", 0, 5),
    }


# A noise floor


@pytest.mark.parametrize("argument", ["revision", "peft", "delta"])
def test_a_floor_of_other_weights_is_refused(tmp_path: Path, argument: str) -> None:
    """The same name with another revision, adapter or delta is another model."""
    base, comp = (load_run(path) for path in pair_of_runs(tmp_path))
    same = changed(base.path, config__model_args__batch_size=4)
    with pytest.raises(FlipsError, match="its model is org/comp, not org/base"):
        refuse_other_model(base, comp)
    other = logs.write_run(
        tmp_path / "again", {"task": [logs.choice(0, [-1.0, -2.0])]}, model="org/base"
    )
    refuse_other_model(load_run(same), load_run(other))  # another batch size is what it takes
    changed(other, **{f"config__model_args__{argument}": "other"})
    with pytest.raises(FlipsError, match=f"its {argument} is other, not None"):
        refuse_other_model(load_run(same), load_run(other))


# Options


@pytest.mark.parametrize("margin", [0.0, -0.01, 1.0, nan])
def test_a_margin_that_is_none_is_refused(tmp_path: Path, margin: float) -> None:
    """At or below nothing, at or above everything, or not a number."""
    run = logs.write_run(tmp_path, {"task": [logs.choice(0, [-1.0, -2.0])]})
    with pytest.raises(FlipsError, match="is no change of a score; give one between 0 and 1"):
        compare(run, run, equivalence_margin=margin)


@pytest.mark.parametrize("margin", [None, 1e-6, 0.01, 0.999])
def test_a_margin_between_nothing_and_everything_is_taken(margin: float | None) -> None:
    """Control for the test above; none is none."""
    assert Options(equivalence_margin=margin).equivalence_margin == margin


@pytest.mark.parametrize("device", ["warp", "cuda:99", ""])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    """Whatever torch says of it, in one line with the way out."""
    with pytest.raises(FlipsError) as caught:
        refuse_device(device)
    message = str(caught.value)
    assert message.startswith(f"device '{device}' cannot be used: ")
    assert message.endswith("; leave --device out for the CPU")
    assert "\n" not in message
    assert len(message) < 220


def test_a_device_that_is_there_is_taken() -> None:
    """By name or as torch's own."""
    refuse_device("cpu")
    refuse_device(torch.device("cpu"))
