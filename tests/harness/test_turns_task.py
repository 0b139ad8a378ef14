"""Conversations in the harness: every turn asked with its own history, logged as a run of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import load_run
from tests.generators.conversations import QUESTIONS, Answering, write_questions
from tests.generators.harness_runs import evaluated


def asked(task: str, tmp_path: Path, model: Answering | None = None, **more: Any) -> Any:
    """The samples of a task of ours, with the usual questions unless others are given."""
    metadata = {"questions": str(write_questions(tmp_path / "data")), **more.pop("metadata", {})}
    model = model or Answering()
    more = {"apply_chat_template": True, **more}
    return evaluated(model, [task], tmp_path / "run", metadata=metadata, **more)["samples"]


def requests(sample: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What was asked, turn by turn, as the log holds it: the prompt and the settings."""
    return [(own["arg_0"], own["arg_1"]) for own in sample["arguments"].values()]


def test_each_turn_is_asked_with_its_own_answers_before_it(tmp_path: Path) -> None:
    """The model's answers tell which prompt they are of: none is mixed up, of one to three turns."""
    model = Answering()
    (samples,) = asked("flips_turns", tmp_path, model).values()
    assert [own["doc_id"] for own in samples] == [0, 1, 2, 3, 4]
    for sample, question in zip(samples, QUESTIONS, strict=True):
        turns, said = question["turns"], sample["filtered_resps"]
        assert len(said) == len(sample["arguments"]) == len(turns)
        history = ""
        for turn, (prompt, _), answer in zip(turns, requests(sample), said, strict=True):
            history += f"<user>{turn}"
            assert prompt == history
            assert answer == model.answer(history)
            history += f"<assistant>{answer}"
        assert sample["turns_answered"] == len(turns)
    assert [len(call) for call in model.calls] == [5, 4, 1]


def test_the_list_of_stops_is_a_new_one_each_time(tmp_path: Path) -> None:
    """The harness adds to the list that a request holds."""
    model = Answering()
    asked("flips_turns", tmp_path, model)
    stops = [settings["until"] for call in model.calls for _, settings in call]
    assert stops == [["</s>"]] * 10


def test_categories_are_tasks_and_the_group_has_all_of_them(tmp_path: Path) -> None:
    """What is logged is a run that is read as any other."""
    results = evaluated(
        Answering(),
        ["mt_bench_math", "mt_bench_stem"],
        tmp_path / "run",
        metadata={"questions": str(write_questions(tmp_path / "data").parent)},
        system_instruction="Be brief.",
        apply_chat_template=True,
    )
    assert {task: len(own) for task, own in results["samples"].items()} == {
        "mt_bench_math": 3,
        "mt_bench_stem": 1,
    }
    assert results["results"]["mt_bench_math"]["turns_answered,none"] == pytest.approx(5 / 3)
    first = results["samples"]["mt_bench_math"][0]
    assert requests(first)[1][0].startswith("<system>Be brief.<user>Add two and two.<assistant>")
    assert first["target"] == "Four.\n\nFive."
    assert list(load_run(tmp_path / "run").tasks) == ["mt_bench_math", "mt_bench_stem"]


def test_answers_are_greedy_unless_the_papers_temperatures_are_asked_for(tmp_path: Path) -> None:
    """0.7, 0.1 and greedy by category, and the log holds which."""
    greedy = asked("flips_turns", tmp_path / "greedy")["flips_turns"]
    assert {settings["do_sample"] for own in greedy for _, settings in requests(own)} == {False}
    drawn = asked("flips_turns", tmp_path / "drawn", metadata={"temperatures": "mt_bench"})
    kept = [requests(own)[-1][1] for own in drawn["flips_turns"]]
    assert [own.get("temperature") for own in kept] == [0.7, None, None, None, 0.1]
    assert [own["do_sample"] for own in kept] == [True, False, False, False, True]


def test_gen_kwargs_reach_every_turn(tmp_path: Path) -> None:
    """The harness's own way to shorten answers."""
    (samples,) = asked("flips_turns", tmp_path, gen_kwargs={"max_gen_toks": 7}).values()
    kept = [settings["max_gen_toks"] for own in samples for _, settings in requests(own)]
    assert kept == [7] * 10


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([{"question_id": 1, "turns": ["a"]}, {"question_id": 1, "turns": ["b"]}], r"\(1\); give"),
        ([{"question_id": 1, "turns": ["a", " "]}], "says nothing in turn 2"),
        ([{"question_id": 1, "turns": []}], r"\(question 1\) has no turns"),
        ([{"turns": ["a"]}], "line 1 has no question_id"),
        ([], "holds no question"),
    ],
    ids=["twice", "empty turn", "no turns", "no id", "no question"],
)
def test_questions_that_cannot_be_asked_are_one_line(
    tmp_path: Path, questions: list[dict[str, Any]], message: str
) -> None:
    """With the file, the line and the question."""
    file = write_questions(tmp_path, questions, "own.jsonl")
    with pytest.raises(FlipsError, match=message):
        asked("flips_turns", tmp_path, metadata={"questions": str(file)})


@pytest.mark.parametrize(
    ("metadata", "more", "message"),
    [
        ({"questions": ""}, {}, "--metadata questions=FILE"),
        ({"questions": "/nowhere"}, {}, "'/nowhere' does not exist"),
        ({"temperatures": "warm"}, {}, "temperatures=warm is unknown"),
        ({}, {"apply_chat_template": False}, "add --apply_chat_template"),
        ({"category": "cooking"}, {}, "no question of the category 'cooking'; it has math, stem"),
    ],
)
def test_what_is_missing_is_said_with_the_way_out(
    tmp_path: Path, metadata: dict[str, str], more: dict[str, Any], message: str
) -> None:
    """Before the model is asked anything."""
    model = Answering()
    with pytest.raises(FlipsError, match=message):
        asked("flips_turns", tmp_path, model, metadata=metadata, **more)
    assert not model.calls


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    """In the harness's words, with the way out."""

    class Plain(Answering):
        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            raise ValueError("tokenizer.chat_template is not set")

    with pytest.raises(FlipsError, match=r"chat_template is not set\); evaluate a model that has"):
        asked("flips_turns", tmp_path, Plain())


def test_references_beside_the_questions_are_the_references(tmp_path: Path) -> None:
    """Of MT-Bench's files those of its paper; a question's own count where no such folder is."""
    file = write_questions(tmp_path / "data")
    for name, said in (("gpt-4.jsonl", "Six."), ("another.jsonl", "Ten.")):
        lines = [{"question_id": 4, "choices": [{"index": 0, "turns": [said]}]}]
        write_questions(file.parent / "reference_answer", lines, name)
    (samples,) = asked("flips_turns", tmp_path, metadata={"questions": str(file)}).values()
    assert [own["doc"]["reference"] for own in samples] == [[], [], [], ["Six."], []]


def test_a_process_asks_the_further_turns_of_its_own_questions(tmp_path: Path) -> None:
    """Two share them; one that is asked again for its last request, to fill up, takes no harm."""
    from lm_eval.tasks import TaskManager

    from lm_eval_flips.harness.task_folder import task_folder

    metadata = {"questions": str(write_questions(tmp_path))}
    manager = TaskManager(
        include_path=str(task_folder()), include_defaults=False, metadata=metadata
    )
    model, answered = Answering(), {}
    for rank in (0, 1):
        task: Any = manager.load(["flips_turns"])["tasks"]["flips_turns"]
        task.build_all_requests(
            rank=rank,
            world_size=2,
            apply_chat_template=True,
            chat_template=model.apply_chat_template,
        )
        requests = [*task.instances, *[task.instances[-1]] * (rank == 1)]
        for request, answer in zip(requests, model.generate_until(requests), strict=True):
            request.resps.append(answer)
        task.apply_filters()
        for own in task.instances:
            answered[own.doc_id, own.idx] = own.filtered_resps["none"]
    (whole,) = asked("flips_turns", tmp_path / "one").values()
    assert answered == {
        (own["doc_id"], turn): said
        for own in whole
        for turn, said in enumerate(own["filtered_resps"])
    }
