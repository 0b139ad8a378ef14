"""What `lm-eval-flips run` will evaluate, where, and what it refuses: plans and states, no model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.evaluations import Evaluation, Recording, Schedule
from lm_eval_flips.evaluation.flags import with_arguments
from lm_eval_flips.evaluation.launchers import Launcher
from lm_eval_flips.evaluation.running import run_all
from lm_eval_flips.evaluation.schedule import schedule_runs
from lm_eval_flips.logs.names import STATE

RESULTS = "results_2026-01-02T03-04-05.678901.json"
FLAGS = ("--limit", "8", "--device", "cpu")


def planned(folder: Path, **changes: Any) -> Schedule:
    """A plan for one compressed model, with some settings changed."""
    settings: dict[str, Any] = {
        "baseline": "pretrained=org/base",
        "compressed": ["pretrained=org/int4"],
        "tasks": "arc_easy,piqa",
        "output_path": folder,
        "arguments": FLAGS,
    }
    return schedule_runs(**{**settings, **changes})


def finish(*runs: Evaluation, below: str = "org__model") -> None:
    """Leave what a finished evaluation does: its state, and the harness's results."""
    for run in runs:
        (run.folder / below).mkdir(parents=True)
        (run.folder / below / RESULTS).write_text("{}")
        (run.folder / STATE).write_bytes(msgspec.json.encode(run.settings))


def finished(plan: Schedule) -> Schedule:
    """The same plan, all of it done."""
    finish(plan.baseline, *plan.compressed)
    return plan


def model_args(run: Evaluation) -> str:
    """What the harness's command is given as --model_args."""
    command = run.command()
    return command[command.index("--model_args") + 1]


def test_a_baseline_is_recorded_and_a_compressed_model_measured_from_it(tmp_path: Path) -> None:
    """The model arguments of both, as the harness's command gets them."""
    plan = planned(tmp_path)
    assert plan.baseline.folder == tmp_path / "baseline"
    assert model_args(plan.baseline) == (
        f"pretrained=org/base,record={tmp_path / 'baseline'},positions=all"
    )
    (compressed,) = plan.compressed
    assert compressed.folder == tmp_path / "int4"
    assert model_args(compressed) == (
        f"pretrained=org/int4,reference={tmp_path / 'baseline'},distances={tmp_path / 'int4'}"
    )
    assert plan.notes == ()


def test_the_command_is_the_harness_s_own_with_samples_logged(tmp_path: Path) -> None:
    """Every other flag is passed on as it was given."""
    (run,) = planned(tmp_path).compressed
    assert run.command() == [
        *(sys.executable, "-m", "lm_eval_flips", "eval", "--model", "flips-hf"),
        *("--model_args", model_args(run), "--tasks", "arc_easy,piqa"),
        *("--output_path", str(tmp_path / "int4"), "--log_samples", *FLAGS),
    ]


def test_bounded_and_last_positions_are_asked_of_the_baseline_only(tmp_path: Path) -> None:
    """The compressed model follows what its reference holds."""
    plan = planned(tmp_path, recording=Recording(positions="last", top=5))
    assert model_args(plan.baseline).endswith(",positions=last,top=5")
    assert "top" not in model_args(plan.compressed[0])
    assert "positions" not in model_args(plan.compressed[0])


def test_another_model_type_measures_nothing_and_says_so(tmp_path: Path) -> None:
    """hf, vllm and all others get their arguments untouched."""
    plan = planned(tmp_path, model="vllm")
    assert model_args(plan.baseline) == "pretrained=org/base"
    assert model_args(plan.compressed[0]) == "pretrained=org/int4"
    assert plan.notes == ("--model vllm gives no distances over the vocabulary: no token KL",)


@pytest.mark.parametrize("recording", [Recording(positions="last"), Recording(top=5)])
def test_another_model_type_records_nothing(recording: Recording, tmp_path: Path) -> None:
    """What it cannot do is not ignored."""
    with pytest.raises(FlipsError, match="--positions and --top are of --model flips-hf; .*hf has"):
        planned(tmp_path, model="hf", recording=recording)


def test_model_arguments_in_json_stay_json(tmp_path: Path) -> None:
    """Which the harness takes too, and in which a comma is no separator."""
    given = {"pretrained": "org/int4", "max_memory": "a,b"}
    (run,) = planned(tmp_path, compressed=[json.dumps(given)]).compressed
    assert run.folder.name == "int4"
    assert json.loads(model_args(run)) == {
        **given,
        "reference": str(tmp_path / "baseline"),
        "distances": str(tmp_path / "int4"),
    }


def test_broken_json_is_one_line(tmp_path: Path) -> None:
    """What is wrong with it is said."""
    with pytest.raises(FlipsError, match=r'arguments \{"pretrained": are not JSON: Input data was'):
        planned(tmp_path, compressed=['{"pretrained":'])
    with pytest.raises(FlipsError, match="are not JSON"):
        with_arguments("{]", {})


@pytest.mark.parametrize(
    ("compressed", "names"),
    [
        (["pretrained=org/int4", "pretrained=org/int8"], ["int4", "int8"]),
        (["pretrained=a/q", "pretrained=b/q", "pretrained=c/q"], ["q", "q-2", "q-3"]),
        (["dtype=float16,pretrained=/models/int4/"], ["int4"]),
        (["pretrained=org/q", "pretrained=org/q-2", "pretrained=org/q"], ["q", "q-2", "q-3"]),
        (["pretrained=org/baseline"], ["baseline-2"]),
        (["path=model.gguf", "model=org/served"], ["model.gguf", "served"]),
        (["pretrained=org/a b:c"], ["a_b_c"]),
        (["peft=org/adapter"], ["compressed"]),
        (["pretrained=/"], ["compressed"]),
    ],
)
def test_a_run_s_folder_is_named_after_its_model(
    compressed: Sequence[str], names: Sequence[str], tmp_path: Path
) -> None:
    """Names that are alike, or taken by the baseline, are numbered."""
    plan = planned(tmp_path, compressed=compressed)
    assert [run.folder for run in plan.compressed] == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use_cache", "file"], "--use_cache cannot be used here: a response cache does not"),
        (["--use_cache=file"], "--use_cache cannot be used here"),
        (["-c", "file"], "-c cannot be used here: a response cache does not tell models apart"),
        (["--model_args", "pretrained=x"], "--model_args cannot be used here: each model's"),
        (["-apretrained=x"], "-a cannot be used here: each model's arguments go to --baseline"),
        (["--config", "run.yaml"], "--config cannot be used here: give the settings as flags"),
        (["-C", "run.yaml"], "-C cannot be used here: give the settings as flags"),
        (["-M", "hf"], "-M cannot be used here: give it as --model"),
        (["-t", "piqa"], "-t cannot be used here: give it as --tasks"),
        (["-o", "elsewhere"], "-o cannot be used here: give it as --output_path"),
    ],
)
def test_flags_that_would_undo_the_plan_are_refused(
    flags: list[str], message: str, tmp_path: Path
) -> None:
    """Long, short and glued to their value."""
    with pytest.raises(FlipsError, match=message):
        planned(tmp_path, arguments=["--limit", "8", *flags])


@pytest.mark.parametrize("flags", [["--batch_size", "8"], ["-b", "8"], ["--limit", "-1"], []])
def test_all_other_flags_are_passed_on(flags: list[str], tmp_path: Path) -> None:
    """Control: nothing else is refused."""
    plan = planned(tmp_path, arguments=flags)
    assert plan.baseline.command()[-len(flags) - 1 :] == ["--log_samples", *flags]


@pytest.mark.parametrize("folder", ["runs,here", "runs=here"])
def test_a_folder_that_model_arguments_cannot_name_is_refused(folder: str, tmp_path: Path) -> None:
    """The harness splits model arguments at commas and equals signs."""
    with pytest.raises(FlipsError, match=f"{folder}' holds a comma or '='; choose another"):
        planned(tmp_path / folder)


@pytest.mark.parametrize("role", ["baseline", "compressed"])
def test_what_is_neither_a_folder_nor_model_arguments_is_told(role: str, tmp_path: Path) -> None:
    """A mistyped folder is not handed to the harness as a model."""
    given: Any = "runs/basline" if role == "baseline" else ["runs/basline"]
    with pytest.raises(FlipsError, match="'runs/basline' is neither the folder of a baseline nor"):
        planned(tmp_path, **{role: given})


@pytest.mark.parametrize("below", ["org__model", "."])
def test_a_run_is_finished_when_the_harness_has_written_its_results(
    below: str, tmp_path: Path
) -> None:
    """Directly in its folder or in that of the model; other JSON files do not count."""
    run = planned(tmp_path).baseline
    assert not run.finished
    (run.folder / below).mkdir(parents=True)
    (run.folder / below / "results_later.json").write_text("{}")
    assert not run.finished
    (run.folder / below / RESULTS).write_text("{}")
    assert run.finished


def test_what_is_finished_is_kept(tmp_path: Path) -> None:
    """The same command again evaluates nothing."""
    finished(planned(tmp_path))
    again = list(run_all(planned(tmp_path)))
    assert again == [
        f"{tmp_path / 'baseline'}: finished before, kept",
        f"{tmp_path / 'int4'}: finished before, kept",
    ]


def test_what_is_not_finished_is_evaluated_and_the_baseline_comes_first(tmp_path: Path) -> None:
    """A first command says what it does before it does it; a second one goes on."""
    assert next(run_all(planned(tmp_path))) == (
        f"{tmp_path / 'baseline'}: evaluating pretrained=org/base (1 of 2)"
    )
    finish(planned(tmp_path).baseline)
    lines = run_all(planned(tmp_path))
    assert next(lines) == f"{tmp_path / 'baseline'}: finished before, kept"
    assert next(lines) == f"{tmp_path / 'int4'}: evaluating pretrained=org/int4 (2 of 2)"


def test_the_order_of_flags_and_where_tasks_lie_do_not_matter(tmp_path: Path) -> None:
    """Nor does which of several GPUs it is."""
    finished(planned(tmp_path, arguments=["--limit", "8", "--device", "cuda:0"]))
    other = ["--device=cuda:1", "--include_path", "tasks", "--limit=8", "--verbosity", "DEBUG"]
    assert all("kept" in line for line in run_all(planned(tmp_path, arguments=other)))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tasks": "piqa"}, "--tasks arc_easy,piqa, now piqa"),
        ({"baseline": "pretrained=org/new"}, "--model_args pretrained=org/base, now pretrained="),
        ({"model": "hf"}, "--model flips-hf, now hf"),
        ({"recording": Recording(positions="last")}, "--positions all, now last"),
        ({"recording": Recording(top=5)}, "--top not given, now 5"),
        ({"arguments": ["--limit", "9", "--device", "cpu"]}, "--limit 8, now 9"),
        ({"arguments": ["--limit", "8"]}, "--device cpu, now not given"),
        ({"arguments": [*FLAGS, "--apply_chat_template"]}, "--apply_chat_template not given, now"),
    ],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(
    changes: dict[str, Any], found: str, tmp_path: Path
) -> None:
    """And with both ways out; --overwrite removes the old run."""
    finished(planned(tmp_path))
    plan = planned(tmp_path, **changes)
    with pytest.raises(FlipsError, match=rf"baseline' was evaluated with {found}.*--overwrite"):
        list(run_all(plan))
    assert plan.baseline.finished
    assert "baseline: evaluating" in next(run_all(plan, overwrite=True))
    assert not plan.baseline.folder.exists()


def test_a_compressed_run_of_another_baseline_is_evaluated_anew(tmp_path: Path) -> None:
    """Its distances are of the old baseline, whichever of the runs was replaced."""
    finished(planned(tmp_path))
    shutil.rmtree(tmp_path / "baseline")
    plan = planned(tmp_path, baseline="pretrained=org/new")
    with pytest.raises(
        FlipsError,
        match="int4' was evaluated with another baseline: --model_args pretrained=org/base, now",
    ):
        list(run_all(plan))
    assert "baseline: evaluating pretrained=org/new" in next(run_all(plan, overwrite=True))
    assert not plan.compressed[0].folder.exists()


def test_a_compressed_run_that_measured_nothing_keeps_with_any_baseline(tmp_path: Path) -> None:
    """--model hf: its answers do not depend on the baseline."""
    finished(planned(tmp_path, model="hf"))
    shutil.rmtree(tmp_path / "baseline")
    lines = run_all(planned(tmp_path, model="hf", baseline="pretrained=org/new"))
    assert "baseline: evaluating" in next(lines)
    assert (tmp_path / "int4").exists()


def test_a_compressed_run_of_other_settings_is_refused_before_anything_is_evaluated(
    tmp_path: Path,
) -> None:
    """The baseline would otherwise be evaluated for nothing."""
    finish(planned(tmp_path, compressed=["pretrained=org/int4,dtype=float16"]).compressed[0])
    with pytest.raises(FlipsError, match="int4' was evaluated with --model_args .*dtype=float16"):
        next(run_all(planned(tmp_path)))
    assert not (tmp_path / "baseline").exists()


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    """Not even with --overwrite; an empty one is taken."""
    (tmp_path / "int4").mkdir()
    assert "baseline: evaluating" in next(run_all(planned(tmp_path)))
    (tmp_path / "int4" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FlipsError, match="int4' holds something else; choose another"):
            next(run_all(planned(tmp_path), overwrite=overwrite))
    assert (tmp_path / "int4" / "thesis.tex").exists()


@pytest.mark.parametrize("content", ["{", '{"model": "flips-hf"}', "[]"])
def test_a_state_that_cannot_be_read_is_one_line(content: str, tmp_path: Path) -> None:
    """It names the file and the way out."""
    finished(planned(tmp_path))
    (tmp_path / "baseline" / STATE).write_text(content)
    with pytest.raises(FlipsError, match=rf"{STATE}' cannot be read: .*; remove '.*baseline'"):
        list(run_all(planned(tmp_path)))


@pytest.fixture
def local_model(tmp_path: Path) -> Callable[[str], str]:
    """Writes a model's folder with some content; gives its model arguments."""

    def write(content: str) -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_text(content)
        return f"pretrained={folder}"

    return write


def test_a_local_model_that_was_made_anew_is_told(
    local_model: Callable[[str], str], tmp_path: Path
) -> None:
    """The same path is not the same model; the same files are."""
    runs = tmp_path / "runs"
    finished(planned(runs, compressed=[local_model("one")]))
    assert all(
        "kept" in line
        for line in run_all(planned(runs, compressed=["pretrained=" + str(tmp_path / "model")]))
    )
    changed = planned(runs, compressed=[local_model("another")])
    with pytest.raises(FlipsError, match="other files of '.*model' than are there now"):
        list(run_all(changed))


def test_a_baseline_s_folder_stands_for_the_baseline(tmp_path: Path) -> None:
    """It is kept, and the compressed models are measured from it."""
    first = finished(planned(tmp_path / "first")).baseline.folder
    plan = planned(tmp_path / "second", baseline=str(first), compressed=["pretrained=org/int8"])
    assert plan.baseline.folder == first
    (run,) = plan.compressed
    assert f"reference={first}," in model_args(run)
    assert next(run_all(plan)) == f"{first}: finished before, kept"


def test_a_baseline_s_folder_serves_when_its_model_is_gone(
    local_model: Callable[[str], str], tmp_path: Path
) -> None:
    """Its reference is all that is needed."""
    given = local_model("weights")
    first = finished(planned(tmp_path / "first", baseline=given)).baseline.folder
    shutil.rmtree(tmp_path / "model")
    plan = planned(tmp_path / "second", baseline=str(first))
    assert next(run_all(plan)) == f"{first}: finished before, kept"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tasks": "piqa"}, "--tasks arc_easy,piqa, now piqa"),
        ({"arguments": ["--limit", "9", "--device", "cpu"]}, "--limit 8, now 9"),
        ({"model": "hf"}, "--model flips-hf, now hf"),
        ({"recording": Recording(top=5)}, "--top not given, now 5"),
    ],
)
def test_a_baseline_s_folder_of_other_settings_is_refused(
    changes: dict[str, Any], found: str, tmp_path: Path
) -> None:
    """Its samples could not be paired, or would be measured otherwise than asked."""
    first = finished(planned(tmp_path / "first")).baseline.folder
    with pytest.raises(FlipsError, match=f"was evaluated with {found}.*; evaluate it anew"):
        planned(tmp_path / "second", baseline=str(first), **changes)


def test_a_baseline_s_folder_that_is_no_finished_run_is_told(tmp_path: Path) -> None:
    """A folder of another command, and a run that was interrupted."""
    other = tmp_path / "other"
    (other / "org__model").mkdir(parents=True)
    (other / "org__model" / RESULTS).write_text("{}")
    with pytest.raises(
        FlipsError, match=r"was not recorded by lm-eval-flips run.*--baseline pretrained=.*other"
    ):
        planned(tmp_path / "runs", baseline=str(other))
    first = finished(planned(tmp_path / "first")).baseline.folder
    (first / "org__model" / RESULTS).unlink()
    with pytest.raises(FlipsError, match="is not finished; give its own command again"):
        planned(tmp_path / "runs", baseline=str(first))


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ((), ["--batch_size", "2"]),
        (("--batch_size", "8"), ["--batch_size", "4"]),
        (("--batch_size=8",), ["--batch_size", "4"]),
        (("-b", "1"), ["--batch_size", "2"]),
        (("--batch_size", "auto"), ["--batch_size", "2"]),
    ],
)
def test_a_noise_floor_is_the_baseline_in_other_batches(
    given: tuple[str, ...], batches: list[str], tmp_path: Path
) -> None:
    """Second in order, measured from the baseline's reference, and otherwise asked the same."""
    plan = planned(tmp_path, noise_floor=True, arguments=[*FLAGS, *given])
    floor = plan.noise_floor
    assert floor is not None
    assert plan.runs == (plan.baseline, floor, *plan.compressed)
    assert floor.settings.model_args == plan.baseline.settings.model_args
    assert floor.settings.arguments == [*FLAGS, *batches]
    assert floor.folder == tmp_path / "noise-floor"
    assert model_args(floor) == (
        f"pretrained=org/base,reference={tmp_path / 'baseline'},"
        f"distances={tmp_path / 'noise-floor'},pack_tokens=384"
    )


def test_a_noise_floor_through_another_model_type_differs_in_its_batches_only(
    tmp_path: Path,
) -> None:
    """Nothing of ours is asked of the harness's own models."""
    plan = planned(tmp_path, noise_floor=True, model="hf")
    assert plan.noise_floor is not None
    assert model_args(plan.noise_floor) == "pretrained=org/base"


def test_no_noise_floor_is_run_unless_asked(tmp_path: Path) -> None:
    """It costs a whole evaluation; and a model of that name gets another folder."""
    plan = planned(tmp_path, compressed=["pretrained=org/noise-floor"])
    assert plan.noise_floor is None
    assert plan.compressed[0].folder == tmp_path / "noise-floor-2"


def test_vllm_keeps_its_likeliest_tokens(tmp_path: Path) -> None:
    """It gives no hidden states; --top says how many otherwise."""
    plan = planned(tmp_path, model="flips-vllm")
    assert model_args(plan.baseline).endswith(",positions=all,top=100")
    assert "top" not in model_args(plan.compressed[0])
    assert plan.notes == ()
    fewer = planned(tmp_path, model="flips-vllm", recording=Recording(top=20))
    assert model_args(fewer.baseline).endswith(",top=20")


def test_a_noise_floor_through_vllm_holds_other_requests_together(tmp_path: Path) -> None:
    """Its batches are its own; --batch_size stays what it was."""
    given = ["--batch_size", "auto"]
    plan = planned(tmp_path, model="flips-vllm", noise_floor=True, arguments=given)
    assert plan.noise_floor is not None
    assert model_args(plan.noise_floor).endswith(",max_num_seqs=24")
    assert plan.noise_floor.settings.arguments == given


def test_vllm_takes_no_launcher(tmp_path: Path) -> None:
    """It starts its own processes; the way out is named."""
    with pytest.raises(FlipsError, match="give tensor_parallel_size=N among its arguments"):
        planned(tmp_path, model="flips-vllm", launcher=Launcher.of("torchrun:--nproc-per-node 2"))
