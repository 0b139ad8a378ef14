"""Several runs a side: flips as probabilities, by hand from files; and what is no side."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.report.page.sources import sources
from lm_eval_flips.report.text.headline import figures, sentence
from tests.generators import logs
from tests.generators.seeds import config_of, seed_runs

OURS = [[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
THEIRS = [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]]


def pooled(*sides: Any, **options: Any) -> Any:
    """The only row."""
    return compare(*sides, **options).compressed[0].pooled


def by_hand(same_seed: bool = True) -> float:
    """The chance that a draw of each differ, over pairs of other seeds."""
    pairs = [(i, j) for i, j in product(range(3), repeat=2) if i != j or not same_seed]
    differ = [sum(b[i] != c[j] for i, j in pairs) for b, c in zip(OURS, THEIRS, strict=True)]
    return sum(differ) / len(pairs) / len(OURS)


def test_flips_of_draws_are_those_of_all_pairs_of_other_seeds(tmp_path: Path) -> None:
    """By hand; scores are the means over documents of the success rates."""
    base, quant = seed_runs(tmp_path, OURS), seed_runs(tmp_path, THEIRS, model="org/quant")
    row = pooled(base, quant)
    assert row.numbers["expected_flips"].value == pytest.approx(by_hand())
    # two of three alike: 2 of 3 pairs differ; three alike: none
    assert row.numbers["seed_floor"].value == pytest.approx(4 * 2 / 3 / 6)
    assert row.baseline_score == pytest.approx(sum(map(sum, OURS)) / 18)
    assert row.score_change == pytest.approx((sum(map(sum, THEIRS)) - sum(map(sum, OURS))) / 18)
    assert row.flips is None
    assert not row.numbers["same_text"].known
    low, high = row.numbers["expected_flips"].interval
    assert low < by_hand() < high


def test_other_seeds_on_the_other_side_leave_no_pair_out(tmp_path: Path) -> None:
    """Control: the same draws under seeds 4 to 6 give another number, that of all nine pairs."""
    base = seed_runs(tmp_path, OURS)
    quant = seed_runs(tmp_path, THEIRS, model="org/quant", seeds=(4, 5, 6))
    value = pooled(base, quant).numbers["expected_flips"].value
    assert value == pytest.approx(by_hand(same_seed=False))
    assert value != pytest.approx(by_hand())


def test_one_run_of_a_side_may_stand_against_several(tmp_path: Path) -> None:
    """There is a floor of the baseline's, and nothing beyond, for which a second draw lacks."""
    base = seed_runs(tmp_path, OURS)
    (quant,) = seed_runs(tmp_path, THEIRS, model="org/quant", seeds=(7,))
    row = pooled(base, quant)
    assert row.numbers["seed_floor"].known
    assert not row.numbers["flips_beyond_seeds"].known
    assert compare(base, quant).baseline.others == tuple(map(str, base[1:]))


def test_repeats_in_one_run_are_draws_too(tmp_path: Path) -> None:
    """A logged rate of three repeats: the numbers of three runs of seeds of their own."""
    sides = []
    for name, draws in (("base", OURS), ("quant", THEIRS)):
        records = [
            logs.text(doc, "4", said=[f"{name} {doc} {r} so 4" for r in row], pass1=sum(row) / 3)
            for doc, row in enumerate(draws)
        ]
        sides.append(
            logs.write_run(
                tmp_path / name,
                {"task": records},
                model=f"org/{name}",
                configs={"task": {"repeats": 3}},
            )
        )
    row = pooled(*sides)
    assert row.numbers["expected_flips"].value == pytest.approx(by_hand(same_seed=False))
    assert row.numbers["seed_floor"].value == pytest.approx(4 * 2 / 3 / 6)


def test_the_page_says_it(tmp_path: Path) -> None:
    """In the sentence on top, in a figure, and in the list of what was compared."""
    base, quant = seed_runs(tmp_path, OURS), seed_runs(tmp_path, THEIRS, model="org/quant")
    found = compare(base, quant)
    row, value = found.compressed[0].pooled, f"{100 * by_hand():.2f} %"
    assert f"a draw of each differ in correctness in {value} of the answers" in sentence(row)
    assert {"Expected flips": value}.items() <= {
        own.label: own.value for own in figures(row)
    }.items()
    assert [own.run for own in sources(found)] == [
        "base-0 and 2 more seeds",
        "quant-0 and 2 more seeds",
    ]


def test_a_gate_judges_draws_by_their_own_rules(tmp_path: Path) -> None:
    """max_flips_beyond_seeds is judged; max_flips is refused with the way out."""
    base, quant = seed_runs(tmp_path, OURS), seed_runs(tmp_path, THEIRS, model="org/quant")
    found = compare(base, quant)
    (gate,) = judge(found, GateConfig(pooled=Thresholds(max_flips_beyond_seeds=0.9)))
    assert gate.outcome == "pass"
    (gate,) = judge(found, GateConfig(pooled=Thresholds(max_expected_flips=0.01)))
    assert gate.outcome == "fail"
    with pytest.raises(FlipsError, match=r"max_flips is of single answers.*max_expected_flips"):
        judge(found, GateConfig(pooled=Thresholds(max_flips=0.9)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "org/other"}, r"its model is org/other, not org/base"),
        ({"batch_size": "16"}, r"its batch_size is not the same \(8 and 16\)"),
        (
            {"gen_kwargs": {"do_sample": True, "temperature": 1.0}},
            r"its gen_kwargs is not the same",
        ),
    ],
)
def test_runs_of_other_settings_are_no_side(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Another model, batch size or temperature, named with both values."""
    base = seed_runs(tmp_path / "a", OURS)
    model = changes.pop("model", "org/base")
    (other,) = seed_runs(tmp_path / "b", OURS, seeds=(9,), model=model, **changes)
    with pytest.raises(FlipsError, match=message):
        compare([base[0], other], base[1])


def test_a_seed_of_generation_may_differ(tmp_path: Path) -> None:
    """Control: that of gen_kwargs, as API models take it, is a seed like the others."""
    runs = []
    for seed in (1, 2):
        sampled = {"do_sample": True, "temperature": 0.7, "seed": seed}
        runs += seed_runs(tmp_path / str(seed), OURS, seeds=(seed,), gen_kwargs=sampled)
    quant = seed_runs(tmp_path, THEIRS, model="org/quant")
    assert pooled(runs, quant).numbers["expected_flips"].known


def test_other_tasks_documents_and_prompts_are_no_side(tmp_path: Path) -> None:
    """Each is named, with the task and the documents."""
    base = seed_runs(tmp_path / "a", OURS)
    fewer = seed_runs(tmp_path / "b", OURS[:4], seeds=(8,))
    with pytest.raises(FlipsError, match=r"2 only in the baseline \(doc 4, 5\)"):
        compare([base[0], *fewer], base[1])
    records = [logs.text(doc, "4", said=[f"other prompt {doc}, 4"]) for doc in range(6)]
    config = config_of(records, "org/base", 9)
    task = logs.write_run(tmp_path / "c", {"other": records}, model="org/base", config=config)
    with pytest.raises(FlipsError, match=r"only one of them holds the task other, task"):
        compare([base[0], task], base[1])
    for record in records:
        record["prompt_hash"] = logs.digest(f"examples of another draw {record['doc_id']}")
    prompts = logs.write_run(tmp_path / "d", {"task": records}, model="org/base", config=config)
    with pytest.raises(FlipsError, match=r"6 prompt differs"):
        compare([base[0], prompts], base[1])
    # Control: a seed that draws the examples may
    config |= {"fewshot_seed": 9}
    drawn = logs.write_run(tmp_path / "e", {"task": records}, model="org/base", config=config)
    quant = seed_runs(tmp_path, THEIRS, model="org/quant")
    assert pooled([base[0], drawn], quant).numbers["expected_flips"].known


def test_one_draw_counts_once(tmp_path: Path) -> None:
    """A run given twice, and a copy of one under the same seed; control: another seed is told."""
    base = seed_runs(tmp_path / "a", OURS)
    quant = seed_runs(tmp_path, THEIRS, model="org/quant")
    with pytest.raises(FlipsError, match="stands twice on one side"):
        compare([base[0], base[0]], quant)
    (copy,) = seed_runs(tmp_path / "b", OURS, seeds=(1,))
    with pytest.raises(FlipsError, match="under the same seed: one draw counts once"):
        compare([base[0], copy], quant)


def test_runs_that_drew_nothing_are_told(tmp_path: Path) -> None:
    """Equal texts under other seeds, as at temperature 0; control: drawn ones are not."""
    quant = seed_runs(tmp_path, THEIRS, model="org/quant")
    told = {own.code for own in compare(seed_runs(tmp_path / "a", OURS), quant).warnings}
    assert "draws-alike" not in told
    alike = []
    for seed in (1, 2):
        records = [logs.text(doc, "4", said=[f"always the same, {doc}: 4"]) for doc in range(6)]
        config = config_of(records, "org/base", seed)
        alike.append(
            logs.write_run(
                tmp_path / f"s{seed}", {"task": records}, model="org/base", config=config
            )
        )
    found = compare(alike, quant)
    assert "draws-alike" in {own.code for own in found.warnings}
    assert found.compressed[0].pooled.numbers["seed_floor"].value == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"noise_floor": "x"}, "--noise-floor"),
        ({"right_from": 0.5}, "--right-from"),
        ({"on_mismatch": "intersect"}, "--on-mismatch intersect"),
        ({"on_nan": "exclude"}, "--on-nan exclude"),
    ],
)
def test_options_of_single_answers_are_refused(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    """Each by its name."""
    base, quant = seed_runs(tmp_path, OURS), seed_runs(tmp_path, THEIRS, model="org/quant")
    with pytest.raises(FlipsError, match=f"{named} does not go together with several runs a side"):
        compare(base, quant, **options)


def test_a_draw_belongs_to_one_side(tmp_path: Path) -> None:
    """On both it would be held against itself; a single run may stand where it likes."""
    base, quant = seed_runs(tmp_path, OURS), seed_runs(tmp_path, THEIRS, model="org/quant")
    with pytest.raises(FlipsError, match=r"base-1.*stands on two sides: give each side draws"):
        compare(base[1:], base[:2], quant)
    with pytest.raises(FlipsError, match=r"quant-1.*stands on two sides"):
        compare(base, quant, quant[1])
    assert len(compare(base[0], quant[1], quant[1]).compressed) == 2
