"""Plan -> what the verb `plan` prints: who is drawn, what it is worth, how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from lm_eval_flips.errors import named
from lm_eval_flips.logs.addresses import address_of
from lm_eval_flips.logs.runs import IDENTITY_ARGS, Run
from lm_eval_flips.logs.secrets import masked_text
from lm_eval_flips.planning.known import BUILT_IN
from lm_eval_flips.planning.plan import MarginClass, Plan
from lm_eval_flips.report.text.fitted_table import FittedTable, ShownColumn
from lm_eval_flips.report.text.numbers import percent

OWN_MODELS = ("flips-hf", "flips-vllm")


def plan_table(plan: Plan) -> FittedTable:
    """The documents by top margin: how many there are, are drawn, and are expected to change."""
    classes = plan.margins
    cells = {
        "documents": [*(str(own.documents) for own in classes), str(plan.documents)],
        "drawn": [*(str(own.drawn) for own in classes), str(plan.budget)],
        "expected to change": [
            *(percent(own.all_flips) for own in classes),
            percent(plan.all_flips),
        ],
    }
    return FittedTable(
        label="top margin",
        names=[*map(_class_name, classes), "all"],
        columns=[ShownColumn(label=label, cells=texts) for label, texts in cells.items()],
        styles=[*[None] * len(classes), "bold"],
    )


def _class_name(own: MarginClass) -> str:
    return "unknown" if own.low is None else f"{own.low:.1f} to {own.high:.1f}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """What the plan is worth, and what has to be seen to."""
    strata = sum(len(task.strata) for task in plan.tasks.values())
    yield (
        f"{plan.budget} of {plan.documents} documents from {strata} strata, seed {plan.seed}; "
        f"rates: {plan.rates}"
    )
    within = f"within ±{percent(plan.half_width)} (95 %) of what the full run shows"
    plain = f"plain random sampling would need {plan.plain_samples} samples for that"
    if plan.rates.startswith(BUILT_IN):
        yield (
            f"if they held, all flips would come {within}; {plain}. They are a guess: the run's "
            "own interval tells, and --pilot plans by a run of this model"
        )
    else:
        yield f"all flips expected {within}; {plain}"
    blind = [name for name, task in plan.tasks.items() if task.strata[0].low is None]
    if blind:
        yield f"no margins in the log of task {named(blind)}: drawn at random, without strata"
    if plan.left_out:
        yield f"not planned, no metric of right and wrong: task {named(plan.left_out)}"


def plan_warnings(plan: Plan, samples: Path) -> Iterator[str]:
    """Tasks whose prompts will not be those of the full run."""
    fewshot = [
        name
        for name, task in plan.tasks.items()
        if task.fewshot_drawn and task.doc_ids != list(range(len(task.doc_ids)))
    ]
    if fewshot:
        yield (
            f"few-shot examples of task {named(fewshot)} are drawn at random, one document after "
            "the other: with --samples the prompts are others than in the full run, and do not "
            f"pair with it. Evaluate the baseline too with --samples {samples}, and compare with "
            "that run"
        )


def next_commands(
    plan: Plan, base: Run, samples: Path, baseline: Path, *, first: bool = False
) -> list[str]:
    """The commands to go on with: evaluate the compressed model; compare it, or draw the others.

    Args:
        plan: whom to evaluate.
        base: the baseline's run.
        samples: the file for ``--samples``.
        baseline: where the run lies.
        first: it is the first of two stages.
    """
    model = str(base.results.config.get("model", "hf"))
    # they are known to lm_eval only where this package registers it
    program = "lm-eval-flips eval" if model in OWN_MODELS else "lm_eval run"
    flags = {
        "--model": model,
        "--model_args": _model_args(base, baseline, measured=model in OWN_MODELS),
        "--tasks": ",".join(task_names(plan, base)),
        "--samples": str(samples),
        **dict(_flags(plan, base)),
        "--output_path": "RUN",
    }
    given = [f"{flag} {shlex.quote(value)}" for flag, value in flags.items()]
    switches = ["--apply_chat_template"] if base.results.chat_template else []
    before, drawn = (shlex.quote(str(path)) for path in (_shown(baseline), samples))
    evaluate = " ".join([program, *given, *switches, "--log_samples"])
    if first:
        others = "--pilot RUN --half-width WIDTH --output ALL.json"
        return [evaluate, f"lm-eval-flips plan {before} --go-on {drawn} {others}"]
    return [evaluate, f"lm-eval-flips compare {before} RUN --plan {drawn}"]


def _shown(baseline: Path) -> str:
    return masked_text(address_of(baseline) or str(baseline))


def _model_args(base: Run, baseline: Path, *, measured: bool) -> str:
    """Those of the baseline, for another model; where it was recorded, for distances from it."""
    kept = {name: value for name, value in base.model_args.items() if name not in IDENTITY_ARGS}
    args = {"pretrained": "COMPRESSED", **kept}
    if measured and "record" in base.model_args and address_of(baseline) is None:
        args |= {"reference": baseline, "distances": "RUN"}
    return ",".join(f"{name}={value}" for name, value in args.items())


def task_names(plan: Plan, base: Run) -> list[str]:
    """The planned tasks, by their groups where these hold no others.

    lm_eval evaluates a task whole that its --samples does not name.
    """
    left, found = dict.fromkeys(plan.tasks), []
    groups = sorted(base.groups.items(), key=lambda item: -len(item[1]))
    for group, leaves in groups:
        if set(leaves) <= set(left):
            found.append(group)
            left = {name: None for name in left if name not in leaves}
    return [*found, *left]


def _flags(plan: Plan, base: Run) -> Iterator[tuple[str, str]]:
    """Settings of the baseline's run that change prompts, and its batch size."""
    shots = {base.tasks[name].num_fewshot for name in plan.tasks}
    if len(shots) == 1 and shots != {0}:
        yield "--num_fewshot", str(shots.pop())
    if base.results.chat_template and base.results.fewshot_as_multiturn is not None:
        yield "--fewshot_as_multiturn", str(base.results.fewshot_as_multiturn).lower()
    if (size := base.results.config.get("batch_size")) is not None:
        yield "--batch_size", str(size)
