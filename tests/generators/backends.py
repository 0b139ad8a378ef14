"""Models' honest log-likelihoods and texts, and what broken backends make of them.

Honest ones are made as models make them: a softmax over the letters and everything else, or a sum
over tokens, with noise on the logits for the compression. Each forgery is one that a backend was
seen to commit, or that a public report tells of.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.generators.logs import Record, choice, cloze, rolling, text

Floats = NDArray[np.float64]

LETTERS = ("A", "B", "C", "D")


def letters(
    n: int = 60,
    *,
    seed: int = 0,
    noise: float = 0.0,
    strength: float = 2.0,
    bias: float = 0.0,
    choices: int = 4,
) -> Floats:
    """Log-likelihoods of one-letter choices, ``[n, choices]``; the right one is ``gold_of``.

    Args:
        n: number of samples.
        seed: of the questions; the same gives the same baseline.
        noise: nats of the compression's noise on each logit, 0 for the baseline.
        strength: how much more the model holds of the right letter, 0 for one that knows nothing.
        bias: how much more it holds of the first letter.
        choices: number of letters.
    """
    draw = np.random.default_rng([seed, 0])
    logits = draw.normal(0, 1, (n, choices + 1))
    logits[np.arange(n), gold_of(n, choices)] += strength
    logits[:, 0] += bias
    logits += np.random.default_rng([seed, 1]).normal(0, 1, logits.shape) * noise
    scores: Floats = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return scores[:, :choices]


def gold_of(n: int, choices: int = 4) -> NDArray[np.int64]:
    """The right choices, which go round."""
    return np.arange(n) % choices


def sentences(n: int = 60, *, seed: int = 0, noise: float = 0.0) -> tuple[Floats, list[list[str]]]:
    """Log-likelihoods of choices of 1 to 12 words, and their texts: a sum over their tokens."""
    draw = np.random.default_rng([seed, 2])
    words = draw.integers(1, 13, (n, 4))
    tokens = -draw.exponential(2.0, (n, 4, 12)) - 0.05
    moved = tokens + np.random.default_rng([seed, 3]).normal(0, 1, tokens.shape) * noise
    kept = np.arange(12) < words[..., None]
    texts = [
        [" ".join(["oak", "elm", "ash", "fir"][k : k + 1] * int(words[i, k])) for k in range(4)]
        for i in range(n)
    ]
    return np.where(kept, np.minimum(moved, -1e-3), 0.0).sum(-1), texts


def as_choices(scores: Floats, texts: list[list[str]] | None = None) -> list[Record]:
    """Multiple-choice records of some log-likelihoods."""
    right = gold_of(len(scores), scores.shape[1])
    return [
        choice(
            i,
            row.tolist(),
            gold=int(right[i]),
            choices=LETTERS if texts is None else texts[i],
            metrics=("acc",),
        )
        for i, row in enumerate(scores)
    ]


def as_cloze(scores: Floats) -> list[Record]:
    """One continuation each, greedy where it must be."""
    return [cloze(i, value, greedy=value > -1.0) for i, value in enumerate(scores[:, 0].tolist())]


def as_rolling(scores: Floats) -> list[Record]:
    """Pages whose log-likelihood is a hundred tokens' of the first choice."""
    return [rolling(i, 100 * v, f"page {i} of words") for i, v in enumerate(scores[:, 0].tolist())]


def as_texts(
    n: int = 30, *, seed: int = 0, changed: float = 0.0, long: bool = True
) -> list[Record]:
    """Generated answers, of which a share differs from the baseline's."""
    draw = np.random.default_rng([seed, 4])
    moved = draw.random(n) < changed
    said = [
        f"Problem {i} asks for {i} and {i + 1}, which give {i * 7 % 9 + off}. " * (4 if long else 0)
        + str(i * 7 % 9 + off)
        for i, off in enumerate(moved.astype(int).tolist())
    ]
    return [
        text(i, whole.rsplit(" ", 1)[-1], target=str(i * 7 % 9), said=[whole])
        for i, whole in enumerate(said)
    ]


def bfloat16(scores: Floats) -> Floats:
    """Rounded to eight significant bits, as a softmax in bfloat16 gives them."""
    mantissa, exponent = np.frexp(scores)
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def _shuffled(scores: Floats) -> Floats:
    return np.random.default_rng(5).permutation(scores.ravel()).reshape(scores.shape)


def _shuffled_within(scores: Floats) -> Floats:
    return np.random.default_rng(6).permuted(scores, axis=1)


def _shifted_late(scores: Floats) -> Floats:
    flat, place = scores.ravel().copy(), scores.size // 3
    flat[place:] = np.roll(flat[place:], 1)
    return flat.reshape(scores.shape)


# What a broken backend makes of the scores that it should have given.
FORGED: dict[str, Callable[[Floats], Floats]] = {
    "all 0.0": np.zeros_like,
    "all alike": lambda scores: np.full_like(scores, -1.25),
    "alike in each sample": lambda scores: np.repeat(scores[:, :1], scores.shape[1], axis=1),
    "one row for all": lambda scores: np.repeat(scores[:1], len(scores), axis=0),
    "positive": np.negative,
    "log2": lambda scores: scores / np.log(2),
    "log10": lambda scores: scores / np.log(10),
    "shifted by one request": lambda scores: np.roll(scores.ravel(), 1).reshape(scores.shape),
    "shifted from a lost answer on": _shifted_late,
}
# Those that a run shows by itself, so that two runs of one broken backend are told too.
SEEN_ALONE = (
    "all 0.0",
    "all alike",
    "alike in each sample",
    "one row for all",
    "positive",
    "log10",
)
# Those that only a comparison with an honest run shows; both runs alike cannot be told from a model.
FORGED_ALONE: dict[str, Callable[[Floats], Floats]] = {
    "shuffled": _shuffled,
    "shuffled within samples": _shuffled_within,
}
