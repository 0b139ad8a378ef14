"""TurnsTask: questions of several turns, each asked with the model's own answers before it.

The harness asks all requests of all tasks at once, so that none can hold an answer. Here it asks
the first turns; the others are asked in ``apply_filters``, which it calls once when the model has
run, of the same model: the harness hands a task that model's ``apply_chat_template`` as a method,
and a method knows whose it is. So ``lm_eval run`` and all that starts it (several processes, any
backend, ``run``) ask all turns, and the log is one of the harness: a record a question, a request
a turn. A verb of its own would have to start models by itself, and would know none of that.

Answers are greedy, so that two models are held against each other and not two draws;
``--metadata temperatures=mt_bench`` draws them as MT-Bench's paper does.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from lm_eval_flips.errors import FlipsError, HarnessError, named
from lm_eval_flips.generation.conversations import (
    Conversation,
    load_conversations,
    temperature_of,
)
from lm_eval_flips.logs.turns import ANSWERED

logger = logging.getLogger(__name__)

PAPERS = "mt_bench"


def count_answered(doc: Mapping[str, Any], results: Iterable[Any]) -> dict[str, int]:
    """How many turns of a conversation have an answer; how good it is, a judge says.

    Example:
        >>> count_answered({"turns": ["Why?", "And then?"]}, ["Because.", " "])
        {'turns_answered': 1}
    """
    return {ANSWERED: sum(bool(str(own).strip()) for own in results)}


DEFAULTS: Mapping[str, Any] = {
    "output_type": "generate_until",
    "test_split": "test",
    "num_fewshot": 0,
    "doc_to_text": "{{turns[0]}}",
    "doc_to_target": "{{reference | join('\n\n')}}",
    "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 1024},
    "metric_list": [{"metric": ANSWERED, "aggregation": "mean", "higher_is_better": True}],
    "process_results": count_answered,
}


class TurnsTask(ConfigurableTask):  # type: ignore[misc]  # lm_eval ships no types
    """Conversations of a file, one category of them or all.

    Reads from the task's metadata (``--metadata``): ``questions``, the file or a folder that holds
    it; ``category``, those meant; ``temperatures``, "mt_bench" for those of its paper.

    Raises:
        HarnessError: the questions cannot be read, or the model has no chat template.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        given = {key: value for key, value in (config or {}).items() if key != "class"}
        name, metadata = given.get("task"), given.get("metadata") or {}
        self._papers = _papers_temperatures(name, metadata.get("temperatures"))
        self._asked = _questions(name, metadata)
        self._chat: Any = None
        self._system: str | None = None
        super().__init__(config={**deepcopy(dict(DEFAULTS)), **given}, **kwargs)
        if self._papers:  # said where all look for it; each category has its own below
            self.config.generation_kwargs = {**self.config.generation_kwargs, "do_sample": True}
        if self.config.repeats != 1:
            raise HarnessError(f"task '{name}' asks each question once: leave out 'repeats'")

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The documents: no hub is asked."""
        docs = [
            {
                "question_id": own.id,
                "category": own.category,
                "turns": list(own.turns),
                "reference": list(own.references),
            }
            for own in self._asked
        ]
        text = datasets.Value("string")
        listed = datasets.Features(
            {
                "question_id": text,
                "category": text,
                "turns": [text],
                "reference": [text],
            }
        )
        self.dataset = {"test": datasets.Dataset.from_list(docs, features=listed)}

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests of the first turns."""
        self._chat, self._system = kwargs.get("chat_template"), kwargs.get("system_instruction")
        if self._chat is None:
            raise HarnessError(
                f"task '{self.config.task}' is a conversation: add --apply_chat_template, and "
                "evaluate a model that has a chat template"
            )
        super().build_all_requests(**kwargs)

    def fewshot_context(self, doc: Mapping[str, Any], **_: Any) -> Any:
        """The first turn as the model's chat template writes it."""
        return self._rendered(doc, ())

    def construct_requests(self, doc: Mapping[str, Any], ctx: Any, **kwargs: Any) -> Any:
        """The request of the first turn."""
        return self._request(doc, ctx, turn=0, metadata=kwargs["metadata"])

    def apply_filters(self) -> Any:
        """Ask all turns but the first, then filter the answers to all of them."""
        said: defaultdict[int, list[str]] = defaultdict(list)
        waiting = list(self.instances)
        while waiting:
            # a process that has fewer questions than others is asked again for its last one
            for own in waiting:
                said[own.doc_id].append(str(own.resps[0]))
            waiting = [
                self._request(
                    own.doc,
                    self._rendered(own.doc, said[own.doc_id]),
                    turn=own.idx + 1,
                    metadata=(own.task_name, own.doc_id, 1),
                )
                for own in waiting
                if own.idx + 1 < len(own.doc["turns"])
            ]
            self._ask(waiting)
            self._instances += waiting
        return super().apply_filters()

    def _ask(self, requests: list[Instance]) -> None:
        if not requests:
            return
        model = getattr(self._chat, "__self__", None)
        if model is None or not hasattr(model, "generate_until"):
            raise HarnessError(
                f"task '{self.config.task}' asks several turns, and this model's chat template "
                "does not tell whose it is; evaluate it with another --model"
            )
        logger.info("Asking turn %d of %d questions", requests[0].idx + 1, len(requests))
        answers = model.generate_until(requests)
        for request, answer in zip(requests, answers, strict=True):
            request.resps.append(answer)

    def _rendered(self, doc: Mapping[str, Any], said: Iterable[str]) -> Any:
        """A conversation up to the first turn that has no answer, for the model to go on."""
        history = [{"role": "system", "content": self._system}] if self._system else []
        answers = list(said)
        for place, text in enumerate(doc["turns"][: len(answers) + 1]):
            history.append({"role": "user", "content": text})
            if place < len(answers):
                history.append({"role": "assistant", "content": answers[place]})
        try:
            return self._chat(history)
        except (ValueError, TypeError, AttributeError, TemplateError) as error:
            raise HarnessError(
                f"task '{self.config.task}': the chat template cannot be applied ({error!s:.200}); "
                "evaluate a model that has one, or give its tokenizer's with --model_args tokenizer"
            ) from None

    def _request(
        self, doc: Mapping[str, Any], context: Any, *, turn: int, metadata: tuple[str, int, int]
    ) -> Instance:
        # a copy each time: the harness adds to the list of stops
        settings = deepcopy(self.config.generation_kwargs)
        if self._papers:
            warm = temperature_of(doc["category"])
            drawn = {"do_sample": True, "temperature": warm} if warm else {"do_sample": False}
            settings = {**settings, **drawn}
        return Instance(
            request_type="generate_until",
            doc=doc,
            arguments=(context, settings),
            idx=turn,
            metadata=metadata,
        )


def _questions(name: str | None, metadata: Mapping[str, Any]) -> list[Conversation]:
    path, category = metadata.get("questions"), metadata.get("category")
    if not path:
        raise HarnessError(
            f"task '{name}' asks questions of a file of yours: --metadata questions=FILE, in "
            "MT-Bench's format"
        )
    try:
        every = _loaded(str(path))
    except FlipsError as error:
        raise HarnessError(str(error)) from None
    found = [own for own in every if category in (None, own.category)]
    if not found:
        have = sorted({own.category for own in every})
        raise HarnessError(
            f"task '{name}': '{path}' has no question of the category '{category}'; it has "
            f"{named(have, shown=10)}: --tasks flips_turns asks all of them"
        )
    return found


@lru_cache
def _loaded(path: str) -> list[Conversation]:
    """The questions; said once for all categories is what is unusual of them."""
    found = load_conversations(Path(path))
    counts = Counter(len(own.turns) for own in found)
    told = ", ".join(f"{counts[turns]} of {turns}" for turns in sorted(counts))
    logger.info("'%s': %d questions, by turns: %s", path, len(found), told)
    if counts[1]:
        logger.warning("'%s': %d questions have a single turn", path, counts[1])
    return found


def _papers_temperatures(name: str | None, asked: Any) -> bool:
    if asked not in (None, PAPERS):
        raise HarnessError(
            f"task '{name}': temperatures={asked} is unknown; leave it out for greedy answers, or "
            f"give temperatures={PAPERS} for those of MT-Bench's paper"
        )
    _say_once(
        "answers are drawn at MT-Bench's temperatures (0.7, 0.1 or 0, by category): two runs of "
        "one model differ"
        if asked
        else "answers are greedy, so that models can be held against each other; MT-Bench's paper "
        f"draws them: --metadata temperatures={PAPERS}"
    )
    return bool(asked)


@lru_cache
def _say_once(message: str) -> None:
    logger.warning(message)
