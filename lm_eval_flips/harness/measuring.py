"""Logged answers, of whatever backend -> what a run of ours would have recorded and measured.

The log's texts are split into tokens again. Its end is not in the log: where a compressed model
chooses every token of an answer, the two logged texts tell whether it ends it there too.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_flips.errors import FlipsError, HarnessError, named
from lm_eval_flips.generation.greedy import why_not_greedy
from lm_eval_flips.generation.retokenised import retokenised
from lm_eval_flips.harness.answer_recording import AnswerRecording, Written
from lm_eval_flips.harness.models.flips_hf import FlipsHF
from lm_eval_flips.logs.records import request_digest
from lm_eval_flips.logs.runs import ANSWERS, Run
from lm_eval_flips.logs.written_lines import LoggedAnswer, logged_answers
from lm_eval_flips.scoring.answers import End, GreedyAnswer


@dataclass(slots=True)
class Measured:
    """What was measured of a task, and the documents that were not, by reason.

    ``merging`` counts answers whose first token the tokenizer would join to the prompt's last: they
    were read as two, as the model did that wrote them.
    """

    answers: int = 0
    merging: int = 0
    left_out: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def measure_answers(
    baseline: Run,
    compressed: Run,
    *,
    folders: tuple[Path, Path],
    model_args: str,
    baseline_args: str | None,
    tasks: Sequence[str],
    device: str | None = None,
    batch_size: int = 1,
) -> Mapping[str, Measured]:
    """Measure how far a model is from a baseline along the answers that were logged.

    Args:
        baseline: the baseline's run.
        compressed: the compressed model's run on the same documents.
        folders: of the two runs, in which the baseline's states and the distances are kept.
        model_args: of the compressed model, as for flips-hf.
        baseline_args: of the baseline; None where its answers are recorded already.
        tasks: which of the baseline's tasks.
        device: as for the harness.
        batch_size: as for the harness.

    Raises:
        FlipsError: a model cannot do it, its tokenizer is another, or a folder holds other answers.
    """
    more = {"device": device, "batch_size": batch_size}
    found = {name: Measured() for name in tasks}
    logged = {name: list(logged_answers(baseline.tasks[name])) for name in tasks}
    if baseline_args is not None:
        lm = _loaded(baseline_args, {**more, "record": str(folders[0])})
        recording = _recording(lm)
        for name, own in found.items():
            recording.record(list(_written(lm, logged[name], own)))
        del lm, recording
        gc.collect()
    elif not (folders[0] / ANSWERS).is_dir():
        raise FlipsError(
            f"'{folders[0]}' holds no recorded answers: give the baseline's model, as in "
            "--baseline_args pretrained=MODEL"
        )
    lm = _loaded(model_args, {**more, "reference": str(folders[0]), "distances": str(folders[1])})
    recording = _recording(lm)
    for name, own in found.items():
        theirs = {one.doc_id: one for one in logged_answers(compressed.tasks[name])}
        _measure(recording, lm, logged[name], theirs, own)
    recording.flush()
    return found


def _loaded(model_args: str, more: Mapping[str, Any]) -> FlipsHF:
    made: FlipsHF = FlipsHF.create_from_arg_string(model_args, dict(more))
    return made


def _recording(lm: FlipsHF) -> AnswerRecording:
    if lm.writing is None:
        raise HarnessError(f"'{lm.pretrained}' cannot read answers in one pass")
    return lm.writing


def _written(lm: FlipsHF, logged: Sequence[LoggedAnswer], own: Measured) -> Iterator[Written]:
    """The answers that can be read again, as they would have been noted; says which cannot."""
    for one in logged:
        why = _unusable(one, lm)
        if why is not None:
            own.left_out[why].append(one.doc_id)
            continue
        context, (text,) = one.request.arg_0, one.texts
        limit = lm.most_written(one.request.arg_1)
        prompt = lm.prompt_tokens(context, limit)
        ids = retokenised(context, prompt, text, encode=_plain_encode(lm), decode=lm.tok_decode)
        if not prompt:
            own.left_out["its prompt has no token"].append(one.doc_id)
        elif ids is None:
            own.left_out["its text is not made again by its tokens"].append(one.doc_id)
        elif len(prompt) + len(ids.ids) > lm.max_length:
            own.left_out["prompt and answer are longer than the model reads"].append(one.doc_id)
        else:
            own.merging += ids.merges
            yield Written(
                key=request_digest(one.request),
                prompt=np.array(prompt, np.int64),
                ids=np.array(ids.ids, np.int64),
                end=End.UNKNOWN,
                limit=limit,
                text=text,
            )


def _unusable(one: LoggedAnswer, lm: FlipsHF) -> str | None:
    if not isinstance(one.request.arg_0, str) or not isinstance(one.request.arg_1, dict):
        return "its prompt is a conversation, not a text"
    if len(one.texts) != 1:
        return f"it was answered {len(one.texts)} times"
    if not one.texts[0]:
        return "its answer is empty, and what ended it is not in the log"
    return why_not_greedy(one.request.arg_1, lm.model.generation_config.to_diff_dict())


def _plain_encode(lm: FlipsHF) -> Any:
    return lambda text: lm.tok_encode(text, add_special_tokens=False)


def _wanted(
    recording: AnswerRecording,
    lm: FlipsHF,
    logged: Sequence[LoggedAnswer],
    theirs: Mapping[int, LoggedAnswer],
    own: Measured,
) -> list[tuple[GreedyAnswer, str]]:
    """The baseline's answers that can be read, each with the compressed text; why not of others."""
    told = {doc for docs in own.left_out.values() for doc in docs}
    wanted: list[tuple[GreedyAnswer, str]] = []
    known = recording.baseline
    for one in logged:
        if one.doc_id in told:
            continue
        answer = None if known is None else known.get(request_digest(one.request))
        other = theirs.get(one.doc_id)
        if answer is None or (answer.text,) != one.texts or not recording.holds(answer):
            own.left_out["the baseline's answer is not recorded"].append(one.doc_id)
        elif other is None or len(other.texts) != 1:
            own.left_out["the compressed run has no answer"].append(one.doc_id)
        elif lm.prompt_tokens(one.request.arg_0, answer.limit) != answer.prompt.tolist():
            own.left_out["its tokens are not those that the baseline read"].append(one.doc_id)
        else:
            wanted.append((answer, other.texts[0]))
    return wanted


def _measure(
    recording: AnswerRecording,
    lm: FlipsHF,
    logged: Sequence[LoggedAnswer],
    theirs: Mapping[int, LoggedAnswer],
    own: Measured,
) -> None:
    """Read the baseline's recorded answers to a task's documents with the compressed model."""
    wanted = _wanted(recording, lm, logged, theirs, own)
    read = recording.read([answer for answer, _ in wanted])
    for answer, text in wanted:
        found = read[answer.key]
        if found.parting is None and answer.end is End.UNKNOWN and text != answer.text:
            # every token of the text is chosen: it is what ended the answer that is not
            found = replace(found, parting=len(answer.ids))
        recording.add(answer, found, text)
    own.answers = len(wanted)


def sentences(found: Mapping[str, Measured]) -> Iterator[str]:
    """What was measured and what was not, task by task."""
    for name, own in found.items():
        merging = f", {own.merging} of which begin within a token" if own.merging else ""
        yield f"{name}: {own.answers} answers measured{merging}"
        for why, docs in own.left_out.items():
            yield f"{name}: {len(docs)} left out, as {why}: doc {named(docs)}"
