"""The judge itself: an OpenAI-compatible endpoint, asked with patience.

A limit of its rate is kept to by all who ask: Retry-After, else twice as long each time. What it
sends is data, whatever it holds.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.secrets import MASK, masked_text

INSTALL = "the judge needs the library of OpenAI's protocol: pip install 'lm-eval-flips[judge]'"
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds
LONGEST_ASKED = 600.0  # seconds of Retry-After that are waited
QUIET = 2.0  # seconds between lines that say why nothing happens
KEY = 8  # characters from which a key is one, and no word that texts hold
KEPT = 20_000  # characters of a reply
# What some models refuse to be told, and what they are told instead.
OTHERWISE = {"max_tokens": "max_completion_tokens", "temperature": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back: all of it as text, the words of the judge, and the tokens it counted.

    ``said`` is None where the reply is none of the protocol, such as a page of HTML; ``refused``
    where the endpoint does not take what was sent, such as a text that is too long for it.
    """

    raw: str
    said: str | None
    tokens_in: int = 0
    tokens_out: int = 0
    refused: bool = False


@dataclass(slots=True)
class _Gate:
    """Until when nobody asks, because the endpoint wants to be left alone."""

    until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, seconds: float) -> None:
        with self.lock:
            self.until = max(self.until, time.monotonic() + seconds)

    def wait(self) -> None:
        while (left := self.until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))


class Endpoint:
    """A model behind an address.

    Args:
        model: its name there.
        base_url: such as ``http://127.0.0.1:8080/v1``; None for OpenAI's own.
        key: what it is asked with.
        timeout: seconds that a reply may take.
        retries: how often an error is tried again that may pass.
        told: called with a line when it has to wait.

    Raises:
        FlipsError: the `openai` package is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None,
        key: str,
        timeout: float,
        retries: int,
        told: Callable[[str], None],
    ) -> None:
        try:
            import openai
        except ImportError:
            raise FlipsError(INSTALL) from None
        self._openai, self._key, self._retries, self._told = openai, key, retries, told
        self.model, self.where = model, base_url or "https://api.openai.com/v1"
        try:
            self._client = openai.OpenAI(
                base_url=self.where, api_key=key, timeout=timeout, max_retries=0
            )
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise self._failed(str(error)) from None
        self._gate = _Gate()
        self._refused: set[str] = set()
        self._said = -QUIET

    def ask(self, sent: dict[str, Any]) -> Reply:
        """Send messages and settings of the protocol, and wait for the reply.

        Raises:
            FlipsError: it cannot be reached, refuses the key or the model, or fails too often.
        """
        failures = 0
        while True:
            self._gate.wait()
            known = frozenset(self._refused)
            try:
                return self._asked(sent)
            except self._openai.BadRequestError as error:
                if not self._learns(str(error), sent, known):
                    return Reply(raw=self._without_key(str(error)), said=None, refused=True)
            except self._openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in (408, 409, 429):
                    raise self._failed(f"status {error.status_code}: {error}") from None
                failures += 1
                self._pause(
                    failures, f"status {error.status_code}", _retry_after(error.response.headers)
                )
            except self._openai.APIConnectionError as error:  # a timeout is one
                failures += 1
                self._pause(failures, str(error.__cause__ or error) or type(error).__name__, None)

    def _asked(self, sent: dict[str, Any]) -> Reply:
        given = {self._named(name): value for name, value in sent.items() if self._named(name)}
        response = self._client.chat.completions.with_raw_response.create(model=self.model, **given)
        text = response.http_response.text
        return read_reply(self._without_key(text))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, MASK) if len(self._key) >= KEY else text

    def _named(self, setting: str) -> str:
        return OTHERWISE[setting] if setting in self._refused else setting

    def _learns(self, why: str, sent: dict[str, Any], known: frozenset[str]) -> bool:
        """Whether a setting was refused that can be left out or called otherwise.

        Others who ask at the same time may have learnt it meanwhile: ``known`` is what was known
        when it was sent.
        """
        new = {name for name in OTHERWISE if name in sent and name in why} - known
        self._refused |= new
        return bool(new)

    def _pause(self, failures: int, why: str, asked: float | None) -> None:
        if failures > self._retries:
            raise self._failed(f"{why}, {failures} times") from None
        wait = min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)  # noqa: S311
        wait = max(wait, min(asked or 0.0, LONGEST_ASKED))
        self._say(
            f"the judge: {masked_text(why):.200}; waiting {wait:.1f} s, then try {failures + 1}"
        )
        if asked is not None:
            self._gate.hold(wait)
        else:
            time.sleep(wait)

    def _say(self, line: str) -> None:
        """Tell why nothing happens, once for all who wait."""
        now = time.monotonic()
        if now - self._said > QUIET:
            self._said = now
            self._told(line)

    def _failed(self, why: str) -> FlipsError:
        why = masked_text(self._without_key(why))
        return FlipsError(
            f"the judge '{self.model}' at {masked_text(self.where)} cannot be asked: {why:.400}. "
            "Check --base-url, --judge-model and the key (OPENAI_API_KEY). Judgements are kept: "
            "the same command goes on from there"
        )


def read_reply(raw: str) -> Reply:
    """The words of a reply of the protocol; anything else has none.

    Example:
        >>> read_reply('{"choices": [{"message": {"content": "[[7]]"}}]}').said
        '[[7]]'
        >>> read_reply("<html>Bad gateway</html>").said is None
        True
    """
    kept = raw[:KEPT]
    try:
        reply = json.loads(raw)
        said = reply["choices"][0]["message"]["content"]
        usage = reply.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Reply(raw=kept, said=None)
    tokens = [count if isinstance(count, int) and count >= 0 else 0 for count in counts]
    return Reply(
        raw=kept,
        said=said if isinstance(said, str) else None,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
    )


def _retry_after(headers: Any) -> float | None:
    """Seconds that a reply asks to wait, given as a number or a date; None where it does not."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
