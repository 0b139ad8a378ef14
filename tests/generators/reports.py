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
CHAT = (
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    "<|im_start|>user\nAnd {}?<|im_end|>\n<|im_start|>assistant\n"
)


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


def conversations(folder: Path) -> list[Path]:
    """Two runs that answered in a conversation: the second loops, or says nothing to be found."""
    wrote = {
        "base": ("4", "We add two and two. The answer is 4."),
        "int4": ("[invalid]", "We add two and <b>two</b>. " + "We add. " * 9),
    }
    paths = []
    for name, (answer, said) in wrote.items():
        records = [logs.text(i, answer, said=[said], filter="strict") for i in range(3)]
        for i, record in enumerate(records):
            record["arguments"]["gen_args_0"]["arg_0"] = CHAT.format(f"What is {i}?", i + 1)
            record["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] = 32
        regex = [{"name": "strict", "filter": [{"function": "regex"}]}]
        configs = {"sums": {"filter_list": regex}}
        paths.append(
            logs.write_run(folder / name, {"sums": records}, model=f"org/{name}", configs=configs)
        )
    return paths
