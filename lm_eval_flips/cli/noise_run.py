"""`noise-run`: a control made from a run, by noise on its log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import Verb, app
from lm_eval_flips.cli.options import NoColorOption
from lm_eval_flips.cli.output import say


@app.command(
    name="noise-run",
    cls=Verb,
    epilog="Example: lm-eval-flips noise-run runs/baseline --sigma 0.5 --output runs/log-noise-0.5",
)
def noise_run(
    run: Annotated[Path, typer.Argument(help="The run that it is made from: the baseline's.")],
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise on a log-likelihood, in nats.")
    ],
    output: Annotated[Path, typer.Option(help="A new folder for the run.")],
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    tasks: Annotated[str, typer.Option(help="Glob of tasks, or a group.")] = "*",
    no_color: NoColorOption = False,
) -> None:
    """Make a control from a run: Gaussian noise on its log-probabilities, scores made anew.

    No model makes such a run, and it is marked so everywhere: compare and leaderboard name it, a
    gate refuses it. Perplexity stays nearly as it is while answers flip.
    """
    from lm_eval_flips.compression.noisy_runs import write_noisy_run
    from lm_eval_flips.logs.runs import load_run

    made = write_noisy_run(load_run(run), output, sigma=sigma, seed=seed, tasks=tasks)
    for line in made.left_out:
        say(f"left out: {line}")
    if made.clipped:
        say(f"{made.clipped} of {made.requests} log-likelihoods came above 0 and were left at 0")
    say(f"wrote {len(made.tasks)} tasks with noise of {sigma:g} nats to {made.results}")
