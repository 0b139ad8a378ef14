"""Registration, the shipped YAMLs and the catalogue, against the harness's real index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_flips import FlipsError
from lm_eval_flips.harness.task_folder import task_folder
from lm_eval_flips.pairs.sample_values import AGGREGATED, Aggregation

NAMES = "mmlu hellaswag piqa winogrande arc_easy arc_challenge lambada triviaqa gsm8k wikitext"
SUITE = [*(f"flips_{name}" for name in NAMES.split()), "flips"]
WRITTEN = "gsm8k gsm8k_cot triviaqa lambada minerva_math ifeval bbh drop mmlu_pro".split()
CODE = ["humaneval", "mbpp"]
FURTHER = [f"flips_{name}" for name in (*WRITTEN, *CODE) if f"flips_{name}" not in SUITE]
OVER_ALL = ["flips", "flips_generate", "flips_code"]  # groups of groups
MT_BENCH = [
    f"mt_bench_{name}"
    for name in "writing roleplay reasoning math coding extraction stem humanities".split()
]
TURNS = ["flips_mt_bench", "flips_turns", *MT_BENCH]
FLIPS = [*SUITE, *FURTHER, *OVER_ALL[1:]]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def manager() -> Any:
    """The harness's index with our folder."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(task_folder()))


@pytest.fixture(scope="module")
def plain_manager() -> Any:
    """The harness's index as it is."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def test_every_group_of_the_suite_is_in_the_index(manager: Any) -> None:
    """Trap 2: a class on the wrong level would turn a group into nothing, silently."""
    assert {*FLIPS, TURNS[0]} <= set(manager.all_groups)


def test_the_index_check_can_fail(plain_manager: Any) -> None:
    """Control: without our folder none of the groups is there."""
    assert not {*FLIPS, *TURNS} & set(plain_manager.all_groups)


def test_our_folder_leaves_every_other_entry_alone(manager: Any, plain_manager: Any) -> None:
    """Trap 3: no built-in task, tag or group is replaced or shrunk."""
    assert set(manager.all_tasks) - set(plain_manager.all_tasks) == {*FLIPS, *TURNS}
    for tag in plain_manager.all_tags:
        assert manager.task_index[tag].tags == plain_manager.task_index[tag].tags


def test_every_member_of_the_suite_is_in_the_catalogue_and_carries_the_class(manager: Any) -> None:
    """A group names tasks the harness has, and puts FlipsTask over each."""
    for name in set(FLIPS) - set(OVER_ALL):
        for member in members_of(name):
            assert (member.get("task") or member.get("group")) in manager.all_tasks
            assert member["class"] == "lm_eval_flips.harness.task.FlipsTask"
    assert members_of("flips") == SUITE[:-1]
    assert members_of("flips_generate") == [f"flips_{name}" for name in WRITTEN]
    assert members_of("flips_code") == [f"flips_{name}" for name in CODE]
    assert members_of("flips_mt_bench") == MT_BENCH


def members_of(name: str) -> list[Any]:
    """What a group of ours lists."""
    text = (task_folder() / f"{name}.yaml").read_text().replace("!function ", "")
    listed: list[Any] = yaml.safe_load(text)["task"]
    return listed


def test_programs_are_in_no_group_of_other_tasks() -> None:
    """The harness refuses a group for one such task in it; without the flag all others run."""
    for name in ("flips", "flips_generate"):
        assert not {f"flips_{own}" for own in CODE} & set(members_of(name))


def test_registering_first_hides_no_built_in() -> None:
    """Trap 1: in a fresh process, our plug-in leaves all models and metrics there."""
    code = (
        "import lm_eval_flips.harness.plugin\n"
        "from lm_eval.api.registry import get_metric, get_model\n"
        "assert get_metric('acc') and get_metric('flips') and get_model('hf')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_registry_check_can_fail() -> None:
    """Control: registering without importing the built-ins first does hide them."""
    code = (
        "from lm_eval.api.model import LM\n"
        "from lm_eval.api.registry import register_model, get_model\n"
        "register_model('zz')(type('Zz', (LM,), {}))\n"
        "get_model('hf')"
    )
    failed = subprocess.run(
        [sys.executable, "-c", code], check=False, timeout=120, capture_output=True, text=True
    )
    assert failed.returncode != 0
    assert "zz" in failed.stderr


def test_the_declared_entry_points_resolve() -> None:
    """lm_eval 0.4.14 will find every metric and aggregation by the name it is registered under."""
    from importlib.metadata import entry_points

    from lm_eval.api.registry import get_aggregation, get_metric

    metrics = entry_points(group="lm_eval.metrics")
    assert {point.name for point in metrics} == set(AGGREGATED)
    other = {key for key, value in AGGREGATED.items() if value.aggregation is not Aggregation.MEAN}
    assert {point.name for point in entry_points(group="lm_eval.aggregations")} == other
    for point in metrics:
        assert point.load() is get_metric(point.name)
    for point in entry_points(group="lm_eval.aggregations"):
        assert point.load() is get_aggregation(point.name)


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("boolq", ["task: boolq"]),
        ("mmlu_stem", ["group: mmlu_stem"]),
        ("ai2_arc", ["task: arc_challenge", "task: arc_easy"]),
        ("arc_ea*", ["task: arc_easy"]),
    ],
)
def test_make_writes_a_group_for_a_task_a_group_a_tag_and_a_glob(
    plain_manager: Any, name: str, members: list[str]
) -> None:
    """Each kind of name becomes members that carry the class."""
    from lm_eval_flips.harness.catalogue import _group_yaml, _members

    found = _members(plain_manager, name)
    assert found == members
    text = _group_yaml("flips_x", found)
    assert text.count("class: !function lm_eval_flips.harness.task.FlipsTask") == len(members)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hellaswagg", "no task, group or tag of the catalogue matches 'hellaswagg'; did you mean"),
        ("squadv2", "squadv2 is built by a class of its own"),
    ],
)
def test_make_refuses_what_it_cannot_cover(plain_manager: Any, name: str, message: str) -> None:
    """An unknown name gets suggestions; a task with its own class is named and refused."""
    from lm_eval_flips.harness.catalogue import _members

    with pytest.raises(FlipsError, match=message):
        _members(plain_manager, name)


def test_make_names_a_folder_that_is_missing(tmp_path: Path) -> None:
    """A mistyped --include_path is told before the index is built."""
    from lm_eval_flips.harness.catalogue import group_files

    with pytest.raises(FlipsError, match="nothing' is no folder; give one that holds task YAMLs"):
        group_files(["boolq"], include_path=tmp_path / "nothing")


def test_our_groups_ask_for_no_aggregation_that_the_harness_would_ignore() -> None:
    """Trap 5: a group's own aggregation is accepted and never called; ours name metrics only."""
    for name in (*FLIPS, TURNS[0]):
        text = (task_folder() / f"{name}.yaml").read_text().replace("!function ", "")
        listed = yaml.safe_load(text).get("aggregate_metric_list", [])
        assert all(set(entry) == {"metric", "weight_by_size"} for entry in listed), name


def test_our_groups_average_what_the_list_of_sample_values_says() -> None:
    """Each group over the tasks' own size; the suite's, whose tasks are of all kinds, what all have."""
    grouped = [key for key, value in AGGREGATED.items() if value.grouped]
    for name in FLIPS:
        text = (task_folder() / f"{name}.yaml").read_text().replace("!function ", "")
        listed = [
            entry["metric"] for entry in yaml.safe_load(text).get("aggregate_metric_list", [])
        ]
        if name in OVER_ALL:
            assert listed == grouped[:3], name
        elif name != "flips_wikitext":  # perplexities are no means over samples
            assert listed == grouped, name


def test_the_folder_is_one_path() -> None:
    """Trap 14: --include_path takes one folder, so what `tasks` prints is one, and it is there."""
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval_flips", "tasks"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = done.stdout.splitlines()
    assert Path(line).is_dir()


def test_no_flip_metric_is_bootstrapped() -> None:
    """Trap 18: the harness forks a pool to bootstrap, also after CUDA has started; not for ours."""
    from lm_eval.api.metrics import mean, median, stderr_for_metric

    from lm_eval_flips.harness.plugin import AGGREGATIONS

    for name, aggregation in AGGREGATIONS.items():
        error = stderr_for_metric(aggregation, 100_000)
        assert (error is None) == (aggregation is not mean), name
    assert stderr_for_metric(median, 100_000) is not None  # control: what would be bootstrapped


def test_a_task_of_its_own_class_is_refused_inside_the_harness(tmp_path: Path) -> None:
    """A group that would replace a task's own class says so instead of scoring something else."""
    from lm_eval.tasks import TaskManager

    (tmp_path / "own.yaml").write_text(
        "task: own\nclass: !function lm_eval.api.task.ConfigurableTask\n"
    )
    (tmp_path / "flips_own.yaml").write_text(
        "group: flips_own\ntask:\n  - task: own\n"
        "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
    )
    with pytest.raises(FlipsError, match="task 'own' is built by a class of its own"):
        TaskManager(include_path=str(tmp_path), include_defaults=False).load(["flips_own"])
