"""The line that the harness would log of a document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.utils import handle_non_serializable, hash_string

from lm_eval_flips.logs.records import Request, record_type


def logged_line(
    doc_id: int,
    filter_key: str,
    target: Any,
    instances: Sequence[Any],
    responses: list[Any],
    metrics: Mapping[str, Any],
    *,
    said: list[Any] | None = None,
) -> Any:
    """A document's record, as ``logs/`` reads it from a file.

    Args:
        doc_id: the document's number.
        filter_key: the filter whose responses these are.
        target: the document's target.
        instances: the harness's requests of the document, in the order of their ``idx``.
        responses: the filtered responses to them.
        metrics: the task's own metrics of the document.
        said: all that was written to each request, before any filter; None where nothing was.
    """
    names = tuple(metrics)
    dumped = json.dumps(
        instances[0].doc, indent=2, default=handle_non_serializable, ensure_ascii=False
    )
    return record_type(names)(
        doc_id=doc_id,
        filter=filter_key,
        metrics=list(names),
        doc_hash=hash_string(dumped),
        prompt_hash=hash_string(instances[0].arguments[0]),
        target_hash=hash_string(str(target)),
        target=str(target),
        arguments={f"gen_args_{i}": Request(*one.args) for i, one in enumerate(instances)},
        filtered_resps=responses,
        **{"resps": said, **{f"metric_{i}": metrics[name] for i, name in enumerate(names)}},
    )
