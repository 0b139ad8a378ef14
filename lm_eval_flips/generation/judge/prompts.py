"""What a judge is asked, and the verdict in its reply."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.generation.judge.own_texts import PAIR, PAIR_OF_TURNS, REFERENCE, ROLE, SCORE
from lm_eval_flips.logs.judgements import Kind

LOWEST, HIGHEST = 1, 10
RATING = re.compile(r"\[\[\s*(\d{1,2}(?:\.\d+)?)\s*\]\]")
CHOICE = re.compile(r"\[\[\s*([ABC])\s*\]\]")
FIRST, SECOND, NEITHER = "A", "B", "C"
PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt with places to fill: ``{question}``, ``{answer}`` or ``{answer_a}``, ``{answer_b}``.

    ``referenced`` says that it has a place for the reference, without which it is of no use.
    """

    name: str
    kind: Kind
    system: str
    template: str
    referenced: bool

    def messages(self, places: Mapping[str, str]) -> list[dict[str, str]]:
        """What is sent; a place that is not known stays as it is written.

        What is filled in is never searched for places.

        Example:
            >>> asked = Prompt(name="own", kind="score", system="", template="{question} {answer}",
            ...                referenced=False)
            >>> asked.messages({"question": "1+1 = {answer}?", "answer": "2"})
            [{'role': 'user', 'content': '1+1 = {answer}? 2'}]
        """
        text = PLACE.sub(lambda match: places.get(match[1], match[0]), self.template)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def verdict(self, reply: str) -> float | str | None:
        r"""A score, or the better answer's letter; None where the reply holds no verdict.

        The last one counts: a judge may quote the answer before.

        Example:
            >>> OWN["score"].verdict("It says [[10]], which is wrong.\n[[2]]")
            2.0
            >>> OWN["score"].verdict("Excellent: [[11]]") is None
            True
            >>> OWN["pair"].verdict("Neither is right. [[C]]")
            'C'
        """
        if self.kind == "pair":
            chosen = CHOICE.findall(reply)
            return str(chosen[-1]) if chosen else None
        found = [float(score) for score in RATING.findall(reply)]
        return found[-1] if found and LOWEST <= found[-1] <= HIGHEST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of one kind of judgement: for samples without a reference, and with one.

    ``later`` and ``later_referenced`` are those for all turns of a conversation but the first; None
    where there are none. They show ``most_turns`` turns. ``digest`` tells them from others.
    """

    plain: Prompt
    referenced: Prompt
    later: Prompt | None = None
    later_referenced: Prompt | None = None
    most_turns: int = 1 << 10

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        return self.plain.kind

    @property
    def digest(self) -> str:
        """A hash of all that is written in them."""
        every = (self.plain, self.referenced, self.later, self.later_referenced)
        texts = [(own.system, own.template) for own in every if own is not None]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

    def messages(
        self, places: Mapping[str, str], *, reference: str, turn: int = 1
    ) -> list[dict[str, str]]:
        """What is sent, by the prompt that fits.

        Args:
            places: what to fill in.
            reference: the key to the last turn, "" where there is none.
            turn: which turn that is.

        Raises:
            FlipsError: no prompt shows so many turns.
        """
        most = self.most_turns if self.later else 1
        first = self.referenced if reference else self.plain
        later = self.later_referenced if reference else self.later
        prompt = later if turn > 1 else first
        if prompt is None or turn > most:
            raise FlipsError(
                f"the prompts show a judge {'1 turn' if most == 1 else f'{most} turns'} of a "
                f"conversation, and one has {turn}: leave out --prompts for our own, or add "
                "prompts with the places {question_1}, {answer_1}, {question_2}, {answer_2}"
            )
        part = PLACE.sub(lambda _: reference, REFERENCE) if reference else ""
        return prompt.messages({"ref_answer_1": reference, **places, "reference_part": part})


def _own(kind: Kind, template: str) -> Prompt:
    return Prompt(name=f"own-{kind}", kind=kind, system=ROLE, template=template, referenced=False)


OWN: Mapping[Kind, Prompt] = {"score": _own("score", SCORE), "pair": _own("pair", PAIR)}
# of a conversation the whole of it is the task, up to the answer that is graded
LATER: Mapping[Kind, Prompt] = {"score": OWN["score"], "pair": _own("pair", PAIR_OF_TURNS)}


def prompts(kind: Kind, file: Path | None = None) -> Prompts:
    """Our own prompts, or those of a file in MT-Bench's format that ask for this.

    Args:
        kind: what is asked for.
        file: a JSON object a line: ``name``, ``type`` ("single" or "pairwise"), ``system_prompt``,
            ``prompt_template``.

    Raises:
        FlipsError: the file cannot be read, or holds no such prompt.
    """
    if file is None:
        own, later = OWN[kind], LATER[kind]
        return Prompts(plain=own, referenced=own, later=later, later_referenced=later)
    wanted = "single" if kind == "score" else "pairwise"
    found = [_read(line, kind) for line in _lines(file) if line.get("type") == wanted]
    one_turn = [prompt for prompt in found if "{question_2}" not in prompt.template]
    places = "{answer}" if kind == "score" else "{answer_a}"
    usable = [own for own in one_turn if "{question}" in own.template and places in own.template]
    plain = next((own for own in usable if not own.referenced), None)
    if plain is None:
        raise FlipsError(
            f"'{file}' holds no prompt of type '{wanted}' for one turn, with the places "
            f"{{question}} and {places} and none for a reference"
        )
    referenced = next((own for own in usable if own.referenced), plain)
    answer = "{answer_2}" if kind == "score" else "{answer_a_2}"
    two = [own for own in found if "{question_2}" in own.template and answer in own.template]
    second = next((own for own in two if not own.referenced), None)
    return Prompts(
        plain=plain,
        referenced=referenced,
        later=second,
        later_referenced=next((own for own in two if own.referenced), second),
        most_turns=2,
    )


def _read(line: Mapping[str, Any], kind: Kind) -> Prompt:
    template = str(line["prompt_template"])
    return Prompt(
        name=str(line.get("name", "")),
        kind=kind,
        system=str(line.get("system_prompt", "")),
        template=template,
        referenced="{ref_answer_1}" in template,
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        found = [
            json.loads(line)
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise FlipsError(
            f"'{file}' cannot be read as prompts, one JSON object a line: {error}"
        ) from None
    odd = [line for line in found if not isinstance(line, dict) or "prompt_template" not in line]
    if odd or not found:
        raise FlipsError(
            f"'{file}' is no file of judge prompts: each line is a JSON object with "
            "'type', 'system_prompt' and 'prompt_template'"
        )
    return found
