"""Runs to make pages of: ordinary ones, and ones whose every text would break a careless page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from lm_eval_flips.report.page.bundles import Bundles, bundles
from tests.generators import logs

RUNS = "document.title = 'run'"
HOSTILE = {
    "script": f"<script>{RUNS}</script>",
    "end of script": f"</script><script>{RUNS}</script>",
    "comment": f"<!-- <script> {RUNS}",
    "attribute": f'"\'><img src=x onerror="{RUNS}"><svg/onload="{RUNS}">',
    "entities": "&lt;b&gt; &amp;amp; &#60;i&#62;",
    "template": "{{ 7 * 7 }} ${7 * 7} {% raw %}",
    "separators": "one\u2028two\u2029three",
    "right to left": "מה צבע השמיים? ما لون السماء؟",
    "cjk": "空は何色ですか。天空是什么颜色？",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301",
    "link": "javascript:alert(1) https://example.org/",
}
HOSTILE_MODEL = 'org/"><img src=x onerror="document.title=1">&amp;-int4'
HOSTILE_TASK = "task <b>&amp;'\""
LONG = 100_000


@cache
def libraries() -> Bundles:
    """The libraries of a page, made once for all tests."""
    return bundles()


def scores(seed: int, n: int, *, choices: int = 4, noise: float = 0.0) -> list[list[float]]:
    """Log-likelihoods; those of the same seed differ by their noise only."""
    generator = np.random.default_rng(seed)
    base = generator.normal(-4, 2, (n, choices))
    moved: list[list[float]] = (base + noise * generator.normal(size=base.shape)).tolist()
    return moved


def ordinary(
    folder: Path, noises: Mapping[str, float], *, n: int = 60, base: float = 0.0
) -> list[Path]:
    """A baseline and a run for each noise: two choice tasks in a group, and a written one."""
    paths = []
    for number, (name, noise) in enumerate(({"base": base} | dict(noises)).items()):
        said = [str(4 if (i + number) % 5 else 5) for i in range(10)]
        tasks: dict[str, Sequence[logs.Record]] = {
            task: [
                logs.choice(
                    i,
                    row,
                    gold=i % 4,
                    question=f"Question {i} of {task}, in words that repeat: {word * 3}?",
                )
                for i, row in enumerate(scores(seed, n, noise=noise))
            ]
            for seed, (task, word) in enumerate((("arc", "apple "), ("law", "bench ")))
        }
        tasks["written"] = [
            logs.text(i, answer, said=[f"The answer is {answer}."]) for i, answer in enumerate(said)
        ]
        paths.append(
            logs.write_run(
                folder / name, tasks, model=f"org/{name}", groups={"both": ["arc", "law"]}
            )
        )
    return paths


def hostile(folder: Path) -> list[Path]:
    """Two runs with hostile texts everywhere: questions, choices, answers, task and model."""
    texts = [*HOSTILE.values(), "x " * (LONG // 2) + "and what is the end?"]
    paths = []
    for model, rows in (
        ("org/base", [-1.0, -2.0]),
        (HOSTILE_MODEL, [-2.0, -1.0]),
    ):
        chosen = [
            logs.choice(i, rows, question=text, choices=(text[:300], f"not {text[:300]}"))
            for i, text in enumerate(texts)
        ]
        answer = "4" if model == "org/base" else HOSTILE["attribute"]
        written = [logs.text(0, answer, said=[HOSTILE["end of script"] + answer])]
        # "/" cannot be in the name of a file, nor of a model's folder
        name = model.replace("/", "__").replace("<", "").replace(">", "").replace('"', "")
        paths.append(
            logs.write_run(
                folder / name[-20:],
                {HOSTILE_TASK: chosen, "written": written},
                model=name,
                model_name=model,
            )
        )
    return paths
