"""Writes synthetic runs as lm_eval 0.4.13 lays them on disk; a test holds the two formats equal.

A record is one line of a samples file: ``choice``, ``inputs``, ``cloze``, ``text`` and ``rolling``
make one of each kind, with the metrics that the harness would have computed. ``write_run`` writes
records and the results JSON that belongs to them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]

DATE = "2026-01-02T03-04-05.678901"
MOST = -0.69  # nats; with more than half of the probability, every token is the likeliest
LATER = "2026-02-03T04-05-06.789012"


def digest(text: str) -> str:
    """The harness's hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_logged(value: Any) -> Any:
    """Everything inside nested lists as a string, as the harness logs responses."""
    return [as_logged(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def record(
    doc_id: int,
    *,
    doc: Mapping[str, Any],
    target: Any,
    requests: Sequence[Sequence[Any]],
    responses: Sequence[Any],
    filtered: Sequence[Any],
    metrics: Mapping[str, Any],
    filter: str = "none",  # noqa: A002  (the harness's word)
) -> Record:
    """One line of a samples file from what the harness holds in memory."""
    return {
        "doc_id": doc_id,
        "doc": dict(doc),
        "target": str(target),
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(request)}
            for i, request in enumerate(requests)
        },
        "resps": as_logged(responses),
        "filtered_resps": as_logged(filtered),
        "filter": filter,
        "metrics": list(metrics),
        "doc_hash": digest(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": digest(requests[0][0]),
        "target_hash": digest(str(target)),
        **metrics,
    }


def choice(
    doc_id: int,
    loglikelihoods: Sequence[float],
    *,
    gold: int | list[int] = 0,
    choices: Sequence[str] = ("oak", "elm", "ash", "fir", "yew"),
    question: str = "",
    target: Any = None,
    delimiter: str = " ",
    metrics: Sequence[str] = ("acc", "acc_norm"),
    unconditional: Sequence[float] = (),
    filter: str = "none",  # noqa: A002
    **logged: Any,
) -> Record:
    """A multiple-choice sample; its metrics follow the harness's rules unless given.

    Args:
        doc_id: the document's number.
        loglikelihoods: one per choice; as many choices are used.
        gold: the right choice, or a list of them.
        choices: the choices' texts.
        question: the context; by default one that names the document.
        target: what is logged as the target; by default ``gold``.
        delimiter: stands between context and choice.
        metrics: names of the metrics to log.
        unconditional: log-likelihoods of the choices without the context, for acc_mutual_info.
        filter: name of the filter.
        logged: values to log instead of the rule's, by metric.
    """
    question = question or f"Question {doc_id}:"
    texts = list(choices[: len(loglikelihoods)])
    values = np.array(loglikelihoods, float)
    compared = {
        "acc": values,
        "acc_norm": values / [len(text) for text in texts],
        "acc_bytes": values / [len(text.encode()) for text in texts],
    }
    if len(unconditional):
        compared["acc_mutual_info"] = values - np.array(unconditional)
    right = gold if isinstance(gold, list) else [gold]
    computed = {name: float(np.argmax(found) in right) for name, found in compared.items()}
    requests = [(question, delimiter + text) for text in texts]
    requests += [("", delimiter + text) for text in texts[: len(unconditional)]]
    pairs = [(value, value > MOST) for value in (*loglikelihoods, *unconditional)]
    return record(
        doc_id,
        doc={"question": question, "choices": texts, "label": gold},
        target=gold if target is None else target,
        requests=requests,
        responses=[[pair] for pair in pairs],
        filtered=pairs,
        metrics={name: logged.get(name, computed.get(name)) for name in metrics},
        filter=filter,
    )


def inputs(
    doc_id: int, loglikelihoods: Sequence[float], *, gold: int = 0, ending: str = "fell."
) -> Record:
    """A sample whose choices are contexts of one continuation, as in winogrande."""
    contexts = [f"Story {doc_id}: {name}" for name in ("Ann", "Bob", "Cem")[: len(loglikelihoods)]]
    pairs = [(value, value > MOST) for value in loglikelihoods]
    return record(
        doc_id,
        doc={"contexts": contexts, "ending": ending, "label": gold},
        target=ending,
        requests=[(context, f" {ending}") for context in contexts],
        responses=[[pair] for pair in pairs],
        filtered=pairs,
        metrics={"acc": float(int(np.argmax(loglikelihoods)) == gold)},
    )


def cloze(doc_id: int, loglikelihood: float, *, greedy: bool) -> Record:
    """A sample with one continuation, as in lambada."""
    pair = (loglikelihood, greedy)
    return record(
        doc_id,
        doc={"text": f"Text {doc_id}", "target": "end"},
        target="end",
        requests=[(f"Text {doc_id}", " end")],
        responses=[[pair]],
        filtered=[pair],
        metrics={"perplexity": loglikelihood, "acc": int(greedy)},
    )


def text(
    doc_id: int,
    answer: str,
    *,
    target: str = "4",
    said: Sequence[str] = (),
    filter: str = "none",  # noqa: A002
    **logged: Any,
) -> Record:
    """A generated sample: the filtered answer, and all that was said where that is more."""
    settings = {"until": ["\n\n"], "do_sample": False}
    return record(
        doc_id,
        doc={"question": f"Problem {doc_id}", "answer": target},
        target=target,
        requests=[(f"Problem {doc_id}", settings)],
        responses=[list(said) or [answer]],
        filtered=[answer],
        metrics=logged or {"exact_match": float(answer == target)},
        filter=filter,
    )


def rolling(doc_id: int, loglikelihood: float, page: str) -> Record:
    """A sample of a text's own log-likelihood, as in wikitext."""
    words, size = len(page.split()), len(page.encode())
    return record(
        doc_id,
        doc={"page": page},
        target=page,
        requests=[(page,)],
        responses=[[loglikelihood]],
        filtered=[loglikelihood],
        metrics={
            "word_perplexity": [loglikelihood, words],
            "byte_perplexity": [loglikelihood, size],
            "bits_per_byte": [loglikelihood, size],
        },
    )


def write_run(
    folder: Path,
    tasks: Mapping[str, Sequence[Record]],
    *,
    model: str = "org/model",
    date: str = DATE,
    groups: Mapping[str, Sequence[str]] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    shared_documents: bool = False,
    **changes: Any,
) -> Path:
    """Write a run's samples and results.

    Args:
        folder: the output path; the files go into a folder in it that is named after the model.
        tasks: the records of each task, in the order in which they are written.
        model: the model's name.
        date: the date in the file names.
        groups: the tasks of each group.
        configs: changes to the tasks' configurations.
        shared_documents: equal documents of two tasks are the same one; else each task's are its
            own, as if they held its name.
        changes: changes to the results, by key; "n_shot" and "n_samples" for the dashed ones.

    Returns:
        The results file.
    """
    place = folder / model.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    if not shared_documents and len(tasks) > 1:
        tasks = {
            name: [own_documents(name, own) for own in records] for name, records in tasks.items()
        }
    for name, records in tasks.items():
        write_samples(place / f"samples_{name}_{date}.jsonl", records)
    results = {**_results(tasks, model, dict(groups or {})), **changes}
    for name, dashed in (("n_shot", "n-shot"), ("n_samples", "n-samples")):
        results |= {dashed: results.pop(name)} if name in results else {}
    for name, change in (configs or {}).items():
        results["configs"][name] |= change
    file = place / f"results_{date}.json"
    file.write_text(json.dumps(results, indent=2, ensure_ascii=False), encoding="utf-8")
    return file


def own_documents(task: str, record: Record) -> Record:
    """The record of a document that no other task has."""
    return {**record, "doc_hash": digest(f"{task} {record['doc_hash']}")}


def write_samples(path: Path, records: Sequence[Record]) -> Path:
    """Write one samples file."""
    lines = [json.dumps(found, ensure_ascii=False) + "\n" for found in records]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _results(
    tasks: Mapping[str, Sequence[Record]], model: str, groups: dict[str, Sequence[str]]
) -> dict[str, Any]:
    effective = {
        name: len({found["doc_id"] for found in records}) for name, records in tasks.items()
    }
    return {
        "results": {name: _scores(name, records) for name, records in tasks.items()},
        "group_subtasks": {**groups, **{name: [] for name in tasks}} if groups else {},
        "configs": {name: _config(name, records) for name, records in tasks.items()},
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {
            name: {
                metric: "perpl" not in metric for found in records for metric in found["metrics"]
            }
            for name, records in tasks.items()
        },
        "n-samples": {name: {"original": n, "effective": n} for name, n in effective.items()},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": model, "dtype": "float32"},
            "batch_size": "8",
            "device": "cpu",
            "limit": None,
            "gen_kwargs": {},
            "random_seed": 0,
            "numpy_seed": 1234,
            "torch_seed": 1234,
            "fewshot_seed": 1234,
        },
        "git_hash": None,
        "transformers_version": "5.23.0",
        "lm_eval_version": "0.4.13",
        "max_length": 512,
        "model_source": "hf",
        "model_name": model,
        "model_name_sanitized": model.replace("/", "__"),
        "chat_template": None,
        "chat_template_sha": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
    }


def _scores(name: str, records: Sequence[Record]) -> dict[str, Any]:
    scores: dict[str, Any] = {
        "name": name,
        "alias": name,
        "sample_len": len({found["doc_id"] for found in records}),
    }
    values: dict[tuple[str, str], list[Any]] = {}
    for found in records:
        for metric in found["metrics"]:
            values.setdefault((metric, found["filter"]), []).append(found.get(metric))
    for (metric, label), logged in values.items():
        scores[f"{metric},{label}"] = _score(metric, logged)
    return scores


def _score(metric: str, logged: Sequence[Any]) -> Any:
    """A metric's score by the harness's own aggregation of it; "N/A" where that is no number."""
    try:
        if metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
            nats = -math.fsum(value for value, _ in logged) / math.fsum(size for _, size in logged)
            score = nats / math.log(2) if metric == "bits_per_byte" else math.exp(nats)
        else:
            truth = {"True": 1, "False": 0}
            mean = math.fsum(float(truth.get(str(value), value)) for value in logged) / len(logged)
            score = math.exp(-mean) if metric == "perplexity" else mean
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return "N/A"
    return score if math.isfinite(score) else "N/A"


def _config(name: str, records: Sequence[Record]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for found in records for metric in found["metrics"]))
    return {
        "task": name,
        "output_type": _output_type(records[0]["arguments"]),
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
        "num_fewshot": 0,
        "metric_list": [{"metric": metric} for metric in metrics],
        "metadata": {"version": 1.0},
    }


def _output_type(requests: Mapping[str, Any]) -> str:
    """What a sample's requests are of: the only text, a text to go on from, one or more answers."""
    first = requests["gen_args_0"]
    if "arg_1" not in first:
        return "loglikelihood_rolling"
    if isinstance(first["arg_1"], dict):
        return "generate_until"
    return "multiple_choice" if len(requests) > 1 else "loglikelihood"
