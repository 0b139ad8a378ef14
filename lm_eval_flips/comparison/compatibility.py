"""Can these runs be compared, and in which settings do they differ?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lm_eval_flips.comparison.result import SettingDifference
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.pairing import Pairs


def refuse_other_model(base: Run, floor: Run) -> None:
    """A noise floor is a second run of the same model."""
    if base.path.resolve() == floor.path.resolve():
        raise FlipsError(
            f"the noise floor '{floor.path}' is the baseline itself; run the baseline a second "
            "time, with another --batch_size"
        )
    if why := other_model(base, floor):
        raise FlipsError(f"the noise floor '{floor.path}' is no second run of the baseline: {why}")


def other_model(base: Run, run: Run) -> str:
    """In what a run is not of the baseline's model; empty where it is."""
    for name in ("model", "revision", "peft", "delta"):
        ours, theirs = (
            own.model if name == "model" else own.model_args.get(name) for own in (base, run)
        )
        if ours != theirs and not (name == "model" and _same_model(base, run)):
            return f"its {name} is {theirs}, not {ours}"
    return ""


def refuse_device(device: str | torch.device) -> None:
    """Refuse a device that is not there."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise FlipsError(
            f"device '{device}' cannot be used: {why:.120}; leave --device out for the CPU"
        ) from None


# Settings that each task has of its own, by what their names begin with.
OF_TASKS = ("version.", "num_fewshot.", "output_type.", "target_delimiter.", "higher_is_better.")


def setting_differences(baseline: Run, compressed: Run) -> list[SettingDifference]:
    """Settings that change scores without changing prompts, and differ between the two runs."""
    ours, theirs = dict(baseline.settings), dict(compressed.settings)
    shared = set(baseline.tasks) & set(compressed.tasks)
    names = [
        name
        for name in {**ours, **theirs}
        if not name.startswith(OF_TASKS) or name.split(".", 1)[1] in shared
    ]
    if None not in (baseline.tokenizer, compressed.tokenizer):
        ours |= {"tokenizer": baseline.tokenizer}
        theirs |= {"tokenizer": compressed.tokenizer}
        names.append("tokenizer")
    for name in names:
        if name.startswith("higher_is_better."):  # a metric of one run only is told as such
            both = ours[name].keys() & theirs[name].keys()
            for of_run in (ours, theirs):
                of_run[name] = {m: up for m, up in of_run[name].items() if m in both}
    return [
        SettingDifference(
            setting=name,
            baseline=ours.get(name),
            compressed=theirs.get(name),
            run=compressed.address,
        )
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def refuse_identical(base: Run, run: Run, pairs: Sequence[Pairs], *, allowed: bool) -> None:
    """Refuse a run that agrees in everything, as a shared response cache makes it."""
    agree = [pair.identical for pair in pairs if pair.identical is not None]
    same_file = base.path.resolve() == run.path.resolve()
    if not allowed and (same_file or (agree and all(agree))):
        raise FlipsError(
            f"'{run.path}' agrees with the baseline in every {_what(pairs)} of every sample, as a "
            "shared --use_cache or a compression that never engaged does; rerun it, or accept with "
            "--allow-identical"
        )


def _what(pairs: Sequence[Pairs]) -> str:
    texts = [pair.kind == "text" for pair in pairs if pair.identical]
    return "character" if texts and all(texts) else "log-likelihood"


def _same_model(base: Run, floor: Run) -> bool:
    """Whether two paths name one model: one commit of it, or one name, and as many parameters."""
    if base.model_sha and floor.model_sha:
        return base.model_sha == floor.model_sha
    names = {Path(run.model.rstrip("/")).name for run in (base, floor)}
    return len(names) == 1 and base.parameters == floor.parameters
