"""The catalogue's tasks of written answers: each pairs, flips and says so in the harness's table.

Their own classes, prompts, filters and metrics; only the documents are ours, a few of the shape
that each data set has, and so is what the models say: right answers, or wrong ones, by number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Row, compare
from tests.generators.harness_runs import Rows, Scripted, evaluated, stand_in

N = 6
LOST, WON = (0, 3), (4,)  # documents that the compressed model alone has wrong, and right
BOTH = (5,)  # that both have wrong
SHARES = {"correct_to_incorrect_share": 2 / N, "incorrect_to_correct_share": 1 / N, "flips": 3 / N}


def right(name: str, doc_id: int) -> bool:
    """Whether a model knows a document."""
    return doc_id not in (*BOTH, *(LOST if name == "compressed" else WON))


Answer = Callable[[dict[str, Any], bool], Any]


def both(
    tmp_path: Path, task: str, answer: Answer, *folders: str | Path, **more: Any
) -> tuple[Any, dict[str, Row]]:
    """What the harness says of the compressed model, and compare of plain runs, by metric."""

    def model(name: str) -> Scripted:
        return Scripted(name, lambda _, doc, doc_id: answer(doc, right(name, doc_id)))

    plain = task.removeprefix("flips_")
    runs: dict[str, Path] = {}
    for name in ("baseline", "compressed"):
        runs[name] = tmp_path / name
        evaluated(model(name), [more.get("plain", plain)], runs[name], folders=folders)
    own = evaluated(
        model("compressed"),
        [task],
        tmp_path / "flips",
        folders=folders,
        metadata={"baseline": str(runs["baseline"])},
    )
    rows = compare(runs["baseline"], runs["compressed"]).compressed[0].tasks
    return own["results"], {f"{row.metric},{row.filter}": row for row in rows}


def part_of(folder: Path, own: str, group: str, tasks: Sequence[str]) -> Path:
    """A group of the harness with only these of its tasks, whose files are copied as they are."""
    import lm_eval.tasks

    there, part = Path(lm_eval.tasks.__file__).parent / own, folder / "part"
    part.mkdir()
    for file in there.iterdir():
        named = any(file.stem.endswith(name) for name in tasks)
        if file.is_file() and (named or file.suffix != ".yaml"):
            shutil.copy(file, part)
    listed = "".join(f"  - {group}_{name}\n" for name in tasks)
    (part / "group.yaml").write_text(f"group: {group}\ntask:\n{listed}")
    return part


def hold_shares(results: dict[str, Any], row: Row) -> None:
    """What was said by number is what both say of a task: its losses, gains and flips."""
    assert row.flips is not None
    assert (row.flips.correct_to_incorrect, row.flips.incorrect_to_correct) == (2, 1)
    for name, share in SHARES.items():
        assert results[row.name][f"{name},{row.filter}"] == pytest.approx(share), name


def sums(n: int = N) -> Rows:
    """GSM8K's shape."""
    return [
        {"question": f"What is {i} and {i}?", "answer": f"It is twice {i}.\n#### {2 * i + 10}"}
        for i in range(n)
    ]


@pytest.mark.parametrize("task", ["gsm8k", "gsm8k_cot"])
def test_gsm8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Both filters' exact matches, with the number where each filter looks for it."""
    stand_in(monkeypatch, {"openai/gsm8k": {"train": sums(9), "test": sums()}})

    def answer(doc: dict[str, Any], known: bool) -> str:
        key = doc["answer"].split("#### ")[1]
        said = key if known else "7"
        return f"So. The answer is {said}." if task == "gsm8k_cot" else f"So.\n#### {said}"

    results, rows = both(tmp_path, f"flips_{task}", answer, "gsm8k", plain=f"flips_{task}")
    assert set(rows) == {"exact_match,strict-match", "exact_match,flexible-extract"}
    for row in rows.values():
        hold_shares(results, row)


def test_triviaqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of several aliases is right, behind a filter that strips."""
    docs = [
        {"question": f"Which number is {i}", "answer": {"aliases": [f"N{i}", f"number {i}"]}}
        for i in range(N)
    ]
    stand_in(monkeypatch, {"mandarjoshi/trivia_qa": {"train": docs, "validation": docs}})

    def answer(doc: dict[str, Any], known: bool) -> str:
        return f" {doc['answer']['aliases'][1]}" if known else " nobody knows"

    results, rows = both(tmp_path, "flips_triviaqa", answer, "triviaqa", plain="flips_triviaqa")
    hold_shares(results, rows["exact_match,remove_whitespace"])


def test_lambada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word is no written answer, but one that is said or not."""
    docs = [{"text": f"She gave {i} of them to Ann"} for i in range(N)]
    stand_in(monkeypatch, {"EleutherAI/lambada_openai": {"test": docs}})
    results, rows = both(
        tmp_path,
        "flips_lambada",
        lambda doc, known: (-0.5 - len(doc["text"]) / 100 - (not known), known),
        "lambada",
        plain="lambada_openai",
    )
    hold_shares(results, rows["acc,none"])


def test_ifeval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is right if all its instructions are followed; instructions count one by one."""
    pytest.importorskip("langdetect")
    pytest.importorskip("immutabledict")
    docs = [
        {
            "key": i,
            "prompt": f"Say {i} without a comma, and end in a title.",
            "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
            "kwargs": [{"num_words": None}, {"num_words": None}],
        }
        for i in range(N)
    ]
    stand_in(monkeypatch, {"google/IFEval": {"train": docs}})
    results, rows = both(
        tmp_path,
        "flips_ifeval",
        lambda doc, known: f"It is {doc['key']}{'' if known else ', so'}. <<The end>>",
        "ifeval",
    )
    hold_shares(results, rows["prompt_level_strict_acc,none"])
    assert results["ifeval"]["inst_level_strict_acc,none"] == pytest.approx((2 * N - 3) / (2 * N))
    assert set(rows) == {"prompt_level_strict_acc,none", "prompt_level_loose_acc,none"}
    told = [str(own) for own in compare(tmp_path / "baseline", tmp_path / "compressed").warnings]
    (strict,) = [own for own in told if "inst_level_strict_acc is not compared" in own]
    assert f"of {2 * N} parts 2 became wrong and 1 right" in strict


def test_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact matches are right or wrong; f1 grades, and is no flip."""
    docs = [
        {
            "query_id": f"q{i}",
            "passage": f"They ran {i + 20} miles to a green hill.",
            "question": "How far?",
            "answer": _drops(f"{i + 20}"),
            "validated_answers": {"number": [], "date": [], "spans": []},
        }
        for i in range(N)
    ]
    stand_in(monkeypatch, {"EleutherAI/drop": {"train": docs, "validation": docs}})
    results, rows = both(
        tmp_path,
        "flips_drop",
        lambda doc, known: doc["passage"].split()[2] if known else "99",
        "drop",
        plain="flips_drop",
    )
    hold_shares(results, rows["em,none"])
    assert rows["f1,none"].flips is None
    assert rows["f1,none"].score_change == pytest.approx(-1 / N)


def _drops(number: str) -> dict[str, Any]:
    return {"number": number, "date": {"day": "", "month": "", "year": ""}, "spans": []}


def test_bbh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of a group's 27 tasks, the harness's own files; the group's shares are theirs."""
    part = part_of(tmp_path, "bbh/cot_fewshot", "bbh_cot_fewshot", ("navigate", "snarks"))
    docs = [{"input": f"not {i}", "target": f"no {i}"} for i in range(N)]
    stand_in(monkeypatch, {"SaylorTwift/bbh": {"test": docs}})
    results, rows = both(
        tmp_path,
        "flips_bbh",
        lambda doc, known: f"So the answer is {doc['target'] if known else 'yes'}.",
        part,
        plain="bbh_cot_fewshot",
    )
    hold_shares(results, rows["exact_match,get-answer"])
    assert sum("bbh_cot_fewshot_" in name for name in results) == 2
    assert results["flips_bbh"]["flips,get-answer"] == pytest.approx(3 / N)


def test_mmlu_pro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of up to ten options that are written behind some reasons."""
    subjects = ("law",)
    part = part_of(tmp_path, "mmlu_pro", "mmlu_pro", subjects)
    docs = [
        {
            "question": f"Which is {i}?",
            "options": [f"{k}" for k in range(10)],
            "answer": "ABCDEFGHIJ"[i],
            "category": subject,
            "cot_content": f"A: Let's think step by step. The answer is ({'ABCDEFGHIJ'[i]}).",
        }
        for subject in subjects
        for i in range(N)
    ]
    stand_in(monkeypatch, {"TIGER-Lab/MMLU-Pro": {"test": docs, "validation": docs}})
    results, rows = both(
        tmp_path,
        "flips_mmlu_pro",
        lambda doc, known: f"Well. The answer is ({doc['answer'] if known else 'J'}).",
        part,
    )
    hold_shares(results, rows["exact_match,custom-extract"])
    assert results["flips_mmlu_pro"]["flips,custom-extract"] == pytest.approx(3 / N)


def test_minerva_math(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two metrics of its own, which agree here; the first decides."""
    pytest.importorskip("math_verify")
    docs = [
        {"problem": f"Add {i} and 8.", "solution": f"It is $\\boxed{{{i + 8}}}$."} for i in range(N)
    ]
    stand_in(monkeypatch, {"EleutherAI/hendrycks_math": {"train": docs, "test": docs}})
    tail = "The final answer is ${}$. I hope it is correct."
    results, rows = both(
        tmp_path,
        "flips_minerva_math",
        lambda doc, known: "Final Answer: " + tail.format(doc["answer"] if known else 99),
        "minerva_math",
        plain="flips_minerva_math",
    )
    hold_shares(results, rows["exact_match,none"])
    assert rows["math_verify,none"].flips is not None
    assert results["flips_minerva_math"]["flips,none"] == pytest.approx(3 / N)


CODE_EVAL = '''
import datasets
import evaluate


class CodeEval(evaluate.Metric):
    """Stands for the hub's metric of this name: runs each first candidate with its test."""

    def _info(self):
        texts = datasets.Value("string")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": datasets.Sequence(texts), "references": texts}),
        )

    def _compute(self, predictions, references, k=(1,)):
        passed = []
        for (candidate, *_), test in zip(predictions, references):
            try:
                exec(candidate + "\\n" + test, {})
                passed.append(1.0)
            except Exception:
                passed.append(0.0)
        return {"pass@1": sum(passed) / len(passed)}, {}
'''


def code_eval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric of that name in the working directory, where the harness's tasks look first."""
    (folder / "code_eval").mkdir()
    (folder / "code_eval" / "code_eval.py").write_text(CODE_EVAL)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_MODULES_CACHE", str(folder / "modules"))
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


@pytest.mark.parametrize("task", ["humaneval", "mbpp"])
def test_code_is_run_only_when_that_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """pass@1 of programs that the models wrote; control: the harness refuses without its flag."""
    code_eval(tmp_path, monkeypatch)
    every: dict[str, Rows] = {
        "humaneval": [
            {
                "task_id": f"HumanEval/{i}",
                "prompt": f"def add_{i}(a):\n",
                "test": f"def check(f):\n    assert f(1) == {i + 1}",
                "entry_point": f"add_{i}",
            }
            for i in range(N)
        ],
        "mbpp": [
            {"task_id": i, "text": f"Add {i}.", "test_list": [f"assert add_{i}(1) == {i + 1}"] * 3}
            for i in range(N)
        ],
    }
    path = {"humaneval": "openai/openai_humaneval", "mbpp": "google-research-datasets/mbpp"}[task]
    stand_in(monkeypatch, {path: {"test": every[task]}})

    def model(name: str) -> Scripted:
        def says(_: str, doc: dict[str, Any], i: int) -> str:
            body = f"    return a + {i if right(name, i) else 77}\n"
            return body if task == "humaneval" else f"def add_{i}(a):\n{body}"

        return Scripted(name, says)

    with pytest.raises(ValueError, match="marked as unsafe"):
        evaluated(model("baseline"), [task], tmp_path / "none", folders=[task])
    confirmed: dict[str, Any] = {"folders": [task], "confirm_run_unsafe_code": True}
    for name in ("baseline", "compressed"):
        evaluated(model(name), [task], tmp_path / name, **confirmed)
    with pytest.raises(ValueError, match="marked as unsafe"):
        evaluated(model("compressed"), [f"flips_{task}"], tmp_path / "none", folders=[task])
    metadata = {"baseline": str(tmp_path / "baseline")}
    own = evaluated(
        model("compressed"), [f"flips_{task}"], tmp_path / "flips", metadata=metadata, **confirmed
    )
    (row,) = compare(tmp_path / "baseline", tmp_path / "compressed").compressed[0].tasks
    hold_shares(own["results"], row)
    assert row.metric in ("pass@1", "pass_at_1")
