"""The command line as its user meets it: exit codes, one-line errors, files, and start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generators import logs

RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A baseline and two compressed runs of six questions, one and three of them flipped."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flipped in (("base", 0), ("int8", 1), ("int4", 3)):
        records = [
            logs.choice(i, [x - 0.01 * flipped for x in (WRONG if i < flipped else RIGHT)])
            for i in range(6)
        ]
        logs.write_run(folder / name, {"task": records}, model=name)
    return [str(folder / name) for name in ("base", "int8", "int4")]


def command(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lm_eval_flips", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )


def test_compare_prints_a_table_for_each_run(folders: list[str]) -> None:
    """Exit 0; counts, shares and directions of both compressed runs."""
    done = command("compare", *folders, "--details")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "16.67 %" in done.stdout
    assert "50.00 %" in done.stdout
    assert done.stdout.count("choice KL and flips, sample by sample") == 2


def test_the_files_are_written_and_not_overwritten(folders: list[str], tmp_path: Path) -> None:
    """--json and --per-sample appear; a second run refuses before it reads, or replaces."""
    arguments = ["compare", *folders, "--json", "a/c.json", "--per-sample", "s.parquet"]
    assert command(*arguments, folder=tmp_path).returncode == 0
    assert json.loads((tmp_path / "a/c.json").read_text())["version"] == 2
    assert (tmp_path / "s.parquet").stat().st_size
    again = command(*arguments, folder=tmp_path)
    assert again.returncode == 2
    assert again.stderr == (
        "error: 'a/c.json' exists; name another file, or replace it with --overwrite\n"
    )
    assert command(*arguments, "--overwrite", folder=tmp_path).returncode == 0


def test_show_flips_prints_question_choices_and_both_probabilities(folders: list[str]) -> None:
    """One flipped sample of each run, with what each model thought of every choice."""
    done = command("compare", *folders, "--show-flips", "1")
    assert done.returncode == 0
    assert done.stdout.count("correct → incorrect") == 2
    assert " 66.5% →  24.5%" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["{empty}"], "holds no results_*.json of lm_eval"),
        (["{other}"], "is not a file that lm_eval wrote"),
        (["{base}"], "agrees with the baseline in every log-likelihood"),
        (["{int4}", "--metric", "bleu"], "no task logged the metric 'bleu'"),
        (["{int4}", "--filter", "strict"], "no task logged the filter asked for"),
        (["{int4}", "--tasks", "mmlu"], "matches 'mmlu'; it holds task"),
        (["{int4}", "--device", "warp"], "device 'warp' cannot be used: Expected one of cpu"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    folders: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """No traceback for anything that a user can get wrong."""
    (tmp_path / "empty").mkdir()
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"\0\1")
    names = dict(zip(("base", "int8", "int4"), folders, strict=True))
    filled = [a.format(empty=tmp_path / "empty", other=other, **names) for a in arguments]
    done = command("compare", folders[0], *filled)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_unwritable_file_is_one_line(folders: list[str], tmp_path: Path) -> None:
    """A folder in the way of the output file is told, not traced."""
    (tmp_path / "taken").write_text("")
    done = command("compare", *folders, "--json", "taken/c.json", folder=tmp_path)
    assert done.returncode == 2
    assert "'taken/c.json' cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_tasks_prints_the_folder_of_the_yamls() -> None:
    """What it prints can be handed to --include_path."""
    done = command("tasks")
    assert done.returncode == 0
    assert (Path(done.stdout.strip()) / "flips_mmlu.yaml").exists()


def test_long_files_are_read_in_processes_of_their_own(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reader of long files gives the same table as the short way."""
    from lm_eval_flips import cli
    from lm_eval_flips.cli import reader

    tables = []
    for long in (reader.LONG_READ, 1):
        monkeypatch.setattr(reader, "LONG_READ", long)
        monkeypatch.setattr(sys, "argv", ["lm-eval-flips", "compare", *folders])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_importing_the_package_loads_neither_torch_nor_lm_eval() -> None:
    """Importing it costs nothing; asking for compare loads torch: the check can fail."""
    code = (
        "import sys, lm_eval_flips; assert not {'torch', 'lm_eval'} & set(sys.modules)\n"
        "lm_eval_flips.compare; assert 'torch' in sys.modules and 'lm_eval' not in sys.modules\n"
        "from lm_eval_flips import compare; assert callable(compare)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_help_loads_nothing_heavy() -> None:
    """--help answers without torch, lm_eval, numpy or scipy."""
    code = (
        "import sys\nfrom lm_eval_flips import cli\nsys.argv = ['x', 'compare', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'lm_eval', 'scipy', 'numpy', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_a_gate_passes_fails_or_cannot_judge(folders: list[str], tmp_path: Path) -> None:
    """Exit 0, 1 and 2; the files say the same as the lines."""
    base, int8, _ = folders
    passed = command("gate", base, int8, "--max-flips", "0.6", folder=tmp_path)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert passed.stdout.startswith("PASS")
    failed = command(
        *("gate", *folders, "--max-flips", "0.3", "--judge", "point", "--json", "gate.json"),
        *("--junit", "gate.xml", "--markdown", "gate.md"),
        folder=tmp_path,
    )
    assert failed.returncode == 1, failed.stderr
    outcomes = [own["outcome"] for own in json.loads((tmp_path / "gate.json").read_text())["gates"]]
    assert outcomes == ["pass", "fail"]
    assert (tmp_path / "gate.xml").read_bytes().startswith(b"<?xml")
    assert "### ❌ fail" in (tmp_path / "gate.md").read_text()
    undecided = command("gate", base, int8, "--max-flips", "0.3", folder=tmp_path)
    assert undecided.returncode == 2
    assert "more samples are needed" in undecided.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no threshold is given"),
        (["--max-flips", "5"], "the threshold --max-flips 5.0 is out of range"),
        (["--max-flips", "nan"], "the threshold --max-flips nan is out of range"),
        (["--config", "none.toml"], "'none.toml' cannot be read"),
    ],
)
def test_a_gate_that_cannot_be_judged_exits_with_2(
    folders: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Never a pass: one line, and no comparison is printed."""
    done = command("gate", *folders[:2], *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""


def test_the_margin_is_an_option_of_compare(folders: list[str]) -> None:
    """The verdict stands below the table."""
    done = command("compare", *folders[:2], "--equivalence-margin", "0.01")
    assert done.returncode == 0
    assert "nor shown to be within ±0.01" in done.stdout
    assert "equivalence within ±0.01: Too few" not in done.stdout
    done = command("compare", *folders[:2], "--equivalence-margin", "0.01", "--details")
    assert "equivalence within ±0.01: Too few samples to tell" in done.stdout


def test_results_for_the_hub_are_written_or_refused_in_one_line(
    folders: list[str], tmp_path: Path
) -> None:
    """These tasks are of no data set there: nothing is written."""
    file = tmp_path / "results.yaml"
    done = command("compare", *folders[:2], "--eval-results", str(file))
    assert done.returncode == 2
    assert done.stderr.startswith("error: the data set of no task lies on the hub")
    assert not file.exists()


def test_a_model_card_is_made_and_renewed(folders: list[str], tmp_path: Path) -> None:
    """Only the block is replaced; a card whose marks are no pair is left as it is."""
    card = tmp_path / "README.md"
    card.write_text("# My model\n")
    assert command("compare", *folders[:2], "--model-card", str(card)).returncode == 0
    first = card.read_text()
    assert first.startswith("# My model\n")
    assert "int8" not in first.splitlines()[0]
    assert "1 became incorrect" in first
    assert command("compare", folders[0], folders[2], "--model-card", str(card)).returncode == 0
    assert "3 became incorrect" in card.read_text()
    assert "1 became incorrect" not in card.read_text()
    card.write_text(first.replace("<!-- lm-eval-flips end -->", ""))
    done = command("compare", *folders[:2], "--model-card", str(card))
    assert done.returncode == 2
    assert "not one beginning and one end" in done.stderr
