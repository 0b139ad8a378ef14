"""FlipsTask: any configurable task, plus how its answers moved from a baseline run.

Put over a task or group by a group YAML (``class: !function lm_eval_flips.harness.task.FlipsTask``)
and given a baseline by ``--metadata baseline=RUN``, it adds the flip metrics to what the task
returns for each sample; the harness gathers, aggregates and prints them like any other.

The order of events in lm_eval's ``evaluate`` (0.4.13, evaluator.py:541-669): requests are built,
the model runs, ``apply_filters`` is called once, then for each filter ``doc_iterator`` is walked
and ``process_results`` called for each document. Pairs are proven when the requests are built,
before the model spends any time; the samples are compared in ``apply_filters``, all at once, with
the code that ``compare`` uses.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from math import isnan
from typing import Any

import numpy as np
from lm_eval.api.task import ConfigurableTask

from lm_eval_flips.errors import FlipsError, HarnessError, named
from lm_eval_flips.harness.logged_line import logged_line
from lm_eval_flips.harness.measured_answer import MeanOfRequests, along_answer, mean_token_kl
from lm_eval_flips.harness.plugin import AGGREGATIONS, MORE_IS_BETTER
from lm_eval_flips.harness.proof import (
    refuse_config,
    refuse_no_answers,
    refuse_other_filters,
    refuse_other_samples,
)
from lm_eval_flips.harness.sample_columns import held_by_all, held_by_all_ranks, with_columns
from lm_eval_flips.harness.sample_values import deciding, sample_values
from lm_eval_flips.logs.columns import Columns
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.pairing import pair

logger = logging.getLogger(__name__)

STANDIN = {"loglikelihood_rolling": 0.0, "generate_until": ""}


class FlipsTask(ConfigurableTask):  # type: ignore[misc]  # lm_eval ships no types
    """A catalogue task that also reports how its samples moved from a baseline run.

    Reads from the task's metadata (``--metadata``): ``baseline``, the run to compare with, and
    ``flips_metric``, the binary metric that decides what is correct (default: the task's first).

    Raises:
        HarnessError: the baseline cannot be read, lacks the task, or holds other samples.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        config = {key: value for key, value in (config or {}).items() if key != "class"}
        refuse_config(config)
        super().__init__(config=config, **kwargs)
        # named in a YAML's metric_list: only these are wanted, and the harness must not call them
        self._named = [name for name in AGGREGATIONS if name in self._metric_fn_list]
        for name in self._named:
            del self._metric_fn_list[name]
        self._filter_keys: Iterator[str] = iter(())
        self._now: tuple[str | None, int] = (None, -1)
        self._values: dict[tuple[str | None, int], dict[str, Any]] = {}
        self._held: frozenset[str] = frozenset()
        metadata = self.config.metadata or {}
        self._flips_metric = metadata.get("flips_metric")
        self._listed: list[int] | None = None
        self._baseline: dict[str, Samples] | None = None
        if metadata.get("baseline"):
            self._baseline = self._read_baseline(str(metadata["baseline"]))
        else:
            _say_once("no --metadata baseline=RUN: the flips tasks run as the plain tasks they are")

    def aggregation(self) -> dict[str, Any]:
        """The task's own aggregations and, with a baseline, those of the flip metrics."""
        own: dict[str, Any] = super().aggregation()
        return own if self._baseline is None else {**own, **AGGREGATIONS}

    def higher_is_better(self) -> dict[str, Any]:
        """The task's own directions; of most flip metrics less is better."""
        own: dict[str, Any] = super().higher_is_better()
        if self._baseline is None:
            return own
        return {**own, **MORE_IS_BETTER}

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests and prove that the baseline answered the same ones."""
        super().build_all_requests(**kwargs)
        if self._baseline is not None:
            self._listed = kwargs.get("samples")
            self._prove(self._baseline, limit=kwargs.get("limit"))

    def apply_filters(self) -> Any:
        """Filter the responses and compare all samples of this rank with the baseline."""
        result = super().apply_filters()
        if self._baseline is not None:
            keys = list(self.instances[0].filtered_resps)
            self._filter_keys = iter(keys)
            for key in keys:
                self._compare(key, self._baseline[key])
            self._held = held_by_all_ranks(held_by_all(self._values.values()))
        return result

    def dump_config(self) -> dict[str, Any]:
        """The configuration as run; its metrics are the columns that loggers show of a sample."""
        config: dict[str, Any] = super().dump_config()
        listed = config.get("metric_list") or []
        return {**config, "metric_list": with_columns(listed, self._held)}

    def doc_iterator(self, **kwargs: Any) -> Iterator[tuple[int, Any]]:
        """Walk the documents, remembering which document under which filter is being scored."""
        filter_key = next(self._filter_keys, None)
        samples = kwargs.get("samples")
        for doc_id, doc in super().doc_iterator(**kwargs):
            # the harness logs the entry of the --samples list as doc_id
            self._now = (filter_key, samples[doc_id] if samples else doc_id)
            yield doc_id, doc

    def process_results(self, doc: Any, results: Any) -> dict[str, Any]:
        """The task's own metrics of a document, and the flip metrics."""
        values = self._values.pop(self._now, None)
        if values is None:
            values = super().process_results(doc, results)
        return values

    def _read_baseline(self, path: str) -> dict[str, Samples]:
        try:
            run = _run(path)
            if self.config.task not in run.tasks:
                raise FlipsError(
                    f"the baseline '{path}' has no samples of task '{self.config.task}'; it holds "
                    f"{named(list(run.tasks), shown=10)}"
                )
            return read_samples(run.tasks[self.config.task])
        except FlipsError as error:
            raise HarnessError(str(error)) from None

    def _prove(self, baseline: dict[str, Samples], *, limit: int | None) -> None:
        """Refuse a baseline of other samples, before the model spends any time.

        A rank sees its own documents only; that none is missing in all of them is told by the
        numbers of the documents asked for.
        """
        refuse_other_filters(self.config.task, baseline, {own.name for own in self._filters})
        first = next(iter(baseline.values()))
        total = len(self.eval_docs)
        asked = np.array(sorted(self._listed or range(min(limit or total, total))), np.int64)
        refuse_other_samples(first, self._samples(first, first.filter, stand_in=True), asked)
        if self.OUTPUT_TYPE == "generate_until":
            refuse_no_answers(first)

    def _compare(self, key: str, baseline: Samples) -> None:
        """Compare this rank's samples under one filter, and keep each document's values.

        The model has run by now: what cannot be compared is said, and costs the flips but not the
        results.
        """
        ours = self._samples(baseline, key)
        try:
            pairs = pair(baseline.only(ours.doc_id), ours, on_nan="exclude")
            metrics = paired_metrics(pairs)
        except FlipsError as error:
            logger.error("no flips: %s", error)
            return
        for reason, docs in pairs.dropped.reasons.items():
            logger.warning(
                "task '%s': %d samples are left out of the flips, as %s: doc %s",
                self.config.task,
                len(docs),
                reason,
                named(list(docs)),
            )
        if pairs.identical and len(pairs.doc_ids) > 1:
            logger.warning(
                "task '%s': every log-likelihood is the baseline's, as with a shared --use_cache "
                "or a compression that never engaged",
                self.config.task,
            )
        for doc_id, name, value in sample_values(deciding(metrics, self._flips_metric), metrics):
            if not self._named or name in self._named:
                self._values[key, doc_id][name] = value

    def _samples(self, baseline: Samples, key: str, *, stand_in: bool = False) -> Samples:
        """This rank's samples as their log would read, with their own metrics.

        With ``stand_in`` the model has not run yet, and the responses are placeholders.
        """
        columns = Columns(replace(baseline.task, expected=None), key)
        by_doc: dict[int, list[Any]] = defaultdict(list)
        for instance in self.instances:
            by_doc[instance.doc_id].append(instance)
        records, metrics, said = [], {}, None
        for place, unsorted in by_doc.items():
            doc_id = self._listed[place] if self._listed else place
            instances = sorted(unsorted, key=lambda instance: instance.idx)
            if stand_in:
                responses = [STANDIN.get(self.OUTPUT_TYPE, (0.0, False))] * len(instances)
                metrics = dict.fromkeys(self._metric_fn_list)
            else:
                responses = [instance.filtered_resps[key] for instance in instances]
                metrics = super().process_results(instances[0].doc, responses)
                if self.OUTPUT_TYPE == "generate_until":
                    # a rank that has fewer documents than others is asked again for its last one
                    said = [instance.resps[: instance.repeats] for instance in instances]
                values = {**self._token_kl(metrics, responses), **self._along_answer(said)}
                self._values[key, doc_id] = {**metrics, **values}
            target = self.doc_to_target(instances[0].doc)
            line = (doc_id, key, target, instances, responses, metrics)
            records.append(logged_line(*line, said=said))
        columns.add(records)
        return columns.samples()

    def _token_kl(
        self, metrics: Mapping[str, Any], responses: list[Any]
    ) -> dict[str, MeanOfRequests]:
        """The distance over the vocabulary and over how many requests, if flips-hf measured it."""
        # the second half asks for each choice without its context
        asked = len(responses) // 2 if "acc_mutual_info" in metrics else len(responses)
        found = mean_token_kl(responses[:asked])
        wanted = not self._named or "token_kl" in self._named
        return {} if isnan(found) or not wanted else {"token_kl": MeanOfRequests(found, asked)}

    def _along_answer(self, said: list[list[Any]] | None) -> dict[str, float]:
        """What flips-hf measured along the baseline's answer to a document's only request."""
        found = along_answer(said[0]) if said is not None and len(said) == 1 else {}
        return {key: own for key, own in found.items() if not self._named or key in self._named}


@lru_cache
def _run(path: str) -> Run:
    return load_run(path)


@lru_cache
def _say_once(message: str) -> None:
    logger.warning(message)
