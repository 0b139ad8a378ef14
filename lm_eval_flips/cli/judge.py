"""`judge`: a model behind an OpenAI-compatible endpoint grades the answers that runs wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.options import NoColorOption
from lm_eval_flips.cli.output import say

if TYPE_CHECKING:
    from lm_eval_flips.generation.judge.asking import Asking
    from lm_eval_flips.generation.judge.judging import Judged, Plan


@app.command(
    epilog="Example: lm-eval-flips judge runs/base runs/int4 --judge-model gpt-5-mini --repeats 2"
)
def judge(
    runs: Annotated[list[Path], typer.Argument(help="Runs whose generated answers are judged.")],
    judge_model: Annotated[str, typer.Option(help="The judge's name at its endpoint.")],
    base_url: Annotated[
        str | None,
        typer.Option(help="Its address, such as http://127.0.0.1:8080/v1; OpenAI's own without."),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Compare each answer with the --baseline's, in both orders."),
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="The run that --pairs compares with.")
    ] = None,
    tasks: Annotated[str, typer.Option(help="Glob of tasks.")] = "*",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge at most so many documents of each task.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Judge each so often: 2 tell the judge's own noise.")
    ] = 1,
    prompts: Annotated[
        Path | None, typer.Option(help="File of judge prompts in MT-Bench's format.")
    ] = None,
    no_references: Annotated[
        bool, typer.Option("--no-references", help="Do not show the judge the tasks' own keys.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="The judge's.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most that it may write.")] = 1024,
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="How many are asked at once.")
    ] = 8,
    retries: Annotated[
        int, typer.Option(min=0, help="How often an error is tried again that may pass.")
    ] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a reply may take.")] = 120.0,
    price_in: Annotated[
        float | None, typer.Option(min=0.0, help="Price of a million tokens sent.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0.0, help="Price of a million tokens received.")
    ] = None,
    no_color: NoColorOption = False,
) -> None:
    """Let a model grade generated answers, or hold them against the baseline's.

    All that is sent and received is kept in the run's folder `judgements`, a line a judgement; the
    same command goes on where it ended. `compare` then shows what the judge says. The key is read
    from OPENAI_API_KEY, and is never written.
    """
    from lm_eval_flips.generation.judge.asking import Asking

    asking = Asking(
        model=judge_model,
        base_url=base_url,
        pairs=pairs,
        baseline=baseline,
        prompts=prompts,
        references=not no_references,
        temperature=temperature,
        max_tokens=max_tokens,
        retries=retries,
        timeout=timeout,
        told=lambda line: say(line, error=True),
    )
    for path in runs:
        _judge(asking, path, tasks, limit, repeats, concurrency, (price_in, price_out))


def _judge(
    asking: Asking,
    path: Path,
    tasks: str,
    limit: int | None,
    repeats: int,
    concurrency: int,
    prices: tuple[float | None, float | None],
) -> None:
    from tqdm import tqdm

    with asking.of_run(path, tasks=tasks, limit=limit) as work:
        for line in work.warnings:
            say(f"warning: {line}", error=True)
        plan = work.plan(repeats)
        for line in _before(path, plan, asking.max_tokens, prices):
            say(line)
        with tqdm(total=len(plan.left), unit="judgement", disable=None) as bar:
            judged = work.judge(plan, concurrency=concurrency, told=lambda: bar.update() and None)
        for line in _after(plan, judged, prices):
            say(line)
        say(f"kept in {work.file}")


def _before(
    path: Path, plan: Plan, max_tokens: int, prices: tuple[float | None, float | None]
) -> list[str]:
    calls = sum(not asked.question.alike for asked in plan.left)
    done = len(plan.wanted) - len(plan.left)
    kept = f", {done} are there already" if done else ""
    most = calls * max_tokens
    cost = _cost(plan.tokens, most, prices)
    at_most = f"; at most {cost}" if cost else ""
    return [
        f"{path}: {len(plan.wanted)} judgements{kept}; {calls} calls, about {plan.tokens:,} tokens "
        f"to send and at most {most:,} to receive{at_most}"
    ]


def _after(plan: Plan, judged: Judged, prices: tuple[float | None, float | None]) -> list[str]:
    from lm_eval_flips.errors import named

    cost = _cost(judged.tokens_in, judged.tokens_out, prices)
    lines = [
        f"{judged.verdicts} of {len(plan.wanted)} have a verdict; used {judged.tokens_in:,} tokens "
        f"sent and {judged.tokens_out:,} received{f', {cost}' if cost else ''}"
    ]
    if judged.unjudged:
        docs = [
            f"{task} doc {doc}{f' turn {turn}' if turn else ''}"
            for task, doc, turn in judged.unjudged
        ]
        lines.append(
            f"without a verdict, and counted nowhere: {len(docs)} ({named(docs)}): "
            f"{judged.why}; their replies are kept, and a rerun asks again"
        )
    return lines


def _cost(tokens_in: int, tokens_out: int, prices: tuple[float | None, float | None]) -> str:
    price_in, price_out = prices
    if price_in is None and price_out is None:
        return ""
    return f"cost {(tokens_in * (price_in or 0.0) + tokens_out * (price_out or 0.0)) / 1e6:.4f}"
