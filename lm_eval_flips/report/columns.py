"""THE list of columns: what each number of a row is called, what it means, how it is shown.

A number is known by its key in ``comparison/numbers.py``. Every one has a column here; tables of
the terminal, the page, the model card and the leaderboard show those that name their place, and
the guide explains all of them.

>>> COLUMN["correct_to_incorrect"].label, COLUMN["flips"].meaning
('C→I', 'answers whose correctness changed: C→I and I→C, as a share of n')

To add one, add a line to ``COLUMNS``: without ``places`` it is shown everywhere that rows are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.report.column import EVERYWHERE, Column, Place
from lm_eval_flips.report.column_families import (
    aside,
    distance_columns,
    related_columns,
    token_columns,
    written_columns,
)
from lm_eval_flips.report.drawn_columns import drawn_columns
from lm_eval_flips.report.text.fitted_table import STAYS

NOT_BOARD: frozenset[Place] = EVERYWHERE - {"board"}
OVER_CHOICES = "KL(baseline ‖ compressed) over the choices, nats"
OVER_VOCABULARY = "KL(baseline ‖ compressed) over the vocabulary, nats"


COLUMNS: tuple[Column, ...] = (
    # what was compared
    Column(key="n", label="n", meaning="samples that both models answered", leaves=4),
    Column(
        key="documents",
        label="of",
        meaning="documents that the samples stand for",
        leaves=3,
        unless="n",
        places=NOT_BOARD,
    ),
    Column(
        key="baseline_score",
        label="baseline",
        meaning="the harness's score of the baseline",
        leaves=6,
        places=NOT_BOARD,
    ),
    Column(
        key="compressed_score",
        label="score",
        meaning="the harness's score of the compressed model",
        leaves=7,
    ),
    Column(
        key="score_change",
        label="change",
        meaning="score minus the baseline's",
        leaves=STAYS,
        change=True,
    ),
    aside(
        "recovery",
        "recovery",
        "score as a multiple of the baseline's; unknown where that is not told from guessing, and "
        "where less of the score is better",
    ),
    aside("chance_score", "chance", "score of guessing"),
    Column(
        key="p_value",
        label="p",
        meaning="of no change of the score, two-sided",
        leaves=9,
        places=NOT_BOARD - {"card"},
    ),
    Column(
        key="perplexity_ratio",
        label="ratio",
        meaning="perplexity as a multiple of the baseline's",
        leaves=30,
        tone="loss",
    ),
    # how many answers moved, and which way
    Column(
        key="flips",
        label="flips",
        meaning="answers whose correctness changed: C→I and I→C, as a share of n",
        leaves=STAYS,
        tone="movement",
    ),
    Column(
        key="all_flips",
        label="all flips",
        meaning="flips and W→W, as a share of n",
        leaves=2,
        tone="movement",
    ),
    Column(
        key="correct_to_incorrect",
        label="C→I",
        meaning="correct answers that became incorrect",
        leaves=20,
        tone="loss",
        otherwise="correct_to_incorrect_share",
    ),
    Column(
        key="incorrect_to_correct",
        label="I→C",
        meaning="incorrect answers that became correct",
        leaves=20,
        tone="gain",
        otherwise="incorrect_to_correct_share",
    ),
    Column(
        key="wrong_to_wrong",
        label="W→W",
        meaning="wrong answers that became other wrong ones",
        leaves=1,
        tone="movement",
        places=NOT_BOARD - {"card"},
    ),
    aside("correct_to_incorrect_share", "C→I share", "correct_to_incorrect as a share of n"),
    aside("incorrect_to_correct_share", "I→C share", "incorrect_to_correct as a share of n"),
    aside("wrong_to_wrong_share", "W→W share", "wrong_to_wrong as a share of n"),
    aside("answers_changed", "changed", "answers that are another one, whatever their correctness"),
    aside("answers_changed_share", "changed share", "answers_changed as a share of n"),
    Column(
        key="negative_flip_rate",
        label="negative flip rate",
        meaning="share of the baseline's correct answers that were lost",
        tone="loss",
        places=frozenset(("board",)),
    ),
    aside("loss_share", "loss share", "losses as a share of the flips"),
    aside("random_loss_share", "loss share of noise", "loss_share if noise alone turned answers"),
    aside("margin_change", "margin change", "of the answers' top margin, mean", change=True),
    *drawn_columns(),
    # what both wrote
    Column(
        key="same_text",
        label="same text",
        meaning="answers that are the baseline's to the last character, as a share of n",
        leaves=10,
    ),
    Column(
        key="first_divergence",
        label="parts at",
        meaning="token at which answers part from the baseline's, from 0; median of those that do",
        leaves=5,
        places=NOT_BOARD - {"card"},
    ),
    aside("never_diverges", "never parts", "answers that are the baseline's to the last token"),
    # how far the probabilities moved
    Column(
        key="answer_kl",
        label="answer KL",
        meaning="KL(baseline ‖ compressed) along the baseline's answers, mean over an answer, nats",
        leaves=35,
        tone="movement",
    ),
    aside(
        "choice_samples", "samples with choices", "samples that the distances over choices are of"
    ),
    aside("token_requests", "requests", "requests that the distances over the vocabulary are of"),
    aside("token_positions", "positions", "scored positions of these requests"),
    *distance_columns("choice_kl", "choice KL", OVER_CHOICES, leaves=STAYS, places=EVERYWHERE),
    *distance_columns("choice_kl_reverse", "reverse choice KL", "KL(compressed ‖ baseline), nats"),
    *distance_columns("jensen_shannon", "Jensen-Shannon", "over the choices, nats, at most ln 2"),
    *distance_columns("total_variation", "total variation", "over the choices, a share"),
    *token_columns("token_kl", "token KL", OVER_VOCABULARY, leaves=40, places=EVERYWHERE),
    *token_columns("token_kl_reverse", "reverse token KL", "KL(compressed ‖ baseline), nats"),
    *token_columns("token_jensen_shannon", "token Jensen-Shannon", "over the vocabulary, nats"),
    *token_columns("token_total_variation", "token total variation", "over the tokens, a share"),
    *token_columns("same_top", "same top token", "positions with the same likeliest token"),
    *token_columns(
        "logprob_change",
        "log-probability change",
        "how much likelier the compressed model holds the scored token, nats",
        change=True,
    ),
    # whose answers moved
    aside("margin_of_correct", "margin, correct", "the baseline's top margin where it was right"),
    aside("margin_of_incorrect", "margin, incorrect", "the same where it was wrong"),
    aside("changed_of_correct", "changed of correct", "share of its right answers that changed"),
    aside("changed_of_incorrect", "changed of incorrect", "share of its wrong ones that changed"),
    *related_columns("choice_kl", "choice KL"),
    *related_columns("token_kl", "token KL"),
    aside("bits_change", "bits change", "of bits per byte", change=True),
    # how answers are written
    *written_columns(),
    # decisions
    aside("equivalence_margin", "margin", "how far scores may differ and be equivalent"),
    aside("p_loss", "p of loss", "of no loss of the score, one-sided"),
    aside("p_holm", "p (Holm)", "p_value adjusted over the run's tasks"),
    aside("p_no_preference", "p of direction", "of as many losses as gains among the flips"),
    aside("p_random", "p of random direction", "of as many losses as chance gives"),
    aside(
        "minimal_detectable_change",
        "detectable change",
        "the change that a test at 5 % would find with 80 % power",
    ),
)
COLUMN: Mapping[str, Column] = {column.key: column for column in COLUMNS}


def columns_at(place: Place, rows: Sequence[Row | PlannedRow]) -> list[Column]:
    """The columns of a place that any of these rows has a number for."""
    return [
        column
        for column in COLUMNS
        if place in column.places
        and any(column.number(row).known for row in rows)
        and not (column.unless and all(_same(column, row) for row in rows))
        and not (column.unless_0 and not any(abs(column.number(row).value) > 0 for row in rows))
    ]


def _same(column: Column, row: Row | PlannedRow) -> bool:
    return column.number(row).value == row.numbers[column.unless].value
