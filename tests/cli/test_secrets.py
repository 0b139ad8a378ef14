"""No output of any verb holds a secret that a run's own files hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from lm_eval_flips.evaluation.running import run_all
from lm_eval_flips.evaluation.schedule import schedule_runs
from lm_eval_flips.evaluation.state import write_state
from tests.cli.conftest import Called
from tests.generators import logs
from tests.generators.folders import records

SECRET = "s3cr3t-"  # every planted one begins so
SHOWN = "float-that-is-shown"  # planted where a setting is no secret: the search must find it


def planted(name: str) -> dict[str, Any]:
    """Settings of the harness with a secret in each place that could hold one."""
    return {
        "pretrained": f"org/{name}",
        "api_key": f"{SECRET}a-{name}",
        "token": f"{SECRET}b-{name}",
        "base_url": f"https://ann:{SECRET}c-{name}@host:80/v1?key={SECRET}d-{name}",
        "header": {"Authorization": f"Bearer {SECRET}e-{name}", "x-team": f"{SECRET}f-{name}"},
        "tokenizer": f"https://host/?token={SECRET}g-{name}",
        "client": {"kwargs": [{"password": f"{SECRET}h-{name}"}]},
        "dtype": f"{SHOWN}-{name}",
    }


def as_text(args: Mapping[str, Any]) -> str:
    """The same in one string, as older versions of the harness log it."""
    return ",".join(f"{name}={value}" for name, value in args.items())


@pytest.fixture(params=["record", "text"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A baseline and two compressed runs with secrets in all of their settings."""
    for name, noise in (("baseline", 0.0), ("int8", 0.2), ("int4", 3.0)):
        tasks = {task: records(task, noise) for task in ("arc", "law")}
        file = logs.write_run(tmp_path / "runs" / name, tasks, model=f"org/llama-{name}")
        results = json.loads(file.read_text())
        args = planted(name)
        results["config"] |= {
            "model_args": args if request.param == "record" else as_text(args),
            "gen_kwargs": {"api_key": f"{SECRET}i-{name}", "temperature": len(name)},
            "wandb_args": {"key": f"{SECRET}j-{name}"},
        }
        results["pretty_env_info"] = f"OPENAI_API_KEY={SECRET}k-{name}"
        results["model_source"] = f"http://:{SECRET}l-{name}@host"
        file.write_text(json.dumps(results))
    return tmp_path / "runs"


def texts(folder: Path, *said: str) -> Iterator[tuple[str, str]]:
    """Everything that was written and printed, as text, by its name."""
    yield "printed", "".join(said)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes().decode(errors="replace")
        if file.suffix == ".parquet":
            content += str(pyarrow.parquet.read_table(file).to_pydict())
        yield file.name, content


def test_no_output_of_comparing_holds_a_secret(call: Called, runs: Path, tmp_path: Path) -> None:
    """compare, report, gate and leaderboard with every file they write; the cache too."""
    base, int8, int4 = runs / "baseline", runs / "int8", runs / "int4"
    out = tmp_path / "out"
    done = [
        call(
            *("compare", base, int8, int4, "--show-flips", "2", "--equivalence-margin", "0.1"),
            *("--json", out / "c.json", "--per-sample", out / "c.parquet"),
            *("--report", out / "p.html", "--model-card", out / "c.md"),
        ),
        call("report", base, int4, "--output", out / "r.html"),
        call(
            *("gate", base, int4, "--max-flips", "0.1", "--judge", "point"),
            *("--json", out / "g.json", "--junit", out / "g.xml", "--markdown", out / "g.md"),
        ),
        call(
            *("leaderboard", runs, "--baseline", base, "--output", out / "b.html"),
            *("--csv", out / "b.csv", "--parquet", out / "b.parquet", "--markdown", out / "b.md"),
            *("--cache", out / "cache"),
        ),
    ]
    assert [said.code for said in done] == [0, 0, 1, 0], done
    written = dict(texts(out, *(said.out + said.err for said in done)))
    assert len(written) == 1 + 12 + 3  # in the cache: two entries and the ranking
    assert [name for name, text in written.items() if SECRET in text] == []
    # the control: what is shown of the settings is found by the same search
    found = {name for name, text in written.items() if SHOWN in text}
    assert {"printed", "c.json", "p.html", "c.md", "r.html", "b.html", "b.csv", "b.md"} <= found
    assert {"b.parquet"} <= found
    assert any(name.endswith(".bin") for name in found)


def test_a_plan_and_its_commands_hold_no_secret(call: Called, runs: Path, tmp_path: Path) -> None:
    """The command to go on with has the baseline's arguments in it, its key being left out."""
    said = call("plan", runs / "baseline", "--budget", "20", "--output", tmp_path / "out/s.json")
    assert said.code == 0, said.err
    written = dict(texts(tmp_path / "out", said.out, said.err))
    assert set(written) == {"printed", "s.json", "s.plan.json"}
    assert [name for name, text in written.items() if SECRET in text] == []
    assert SHOWN in written["printed"]


def test_an_error_that_quotes_arguments_holds_no_secret(call: Called, tmp_path: Path) -> None:
    """Two models in one folder are listed with their arguments."""
    for name, date in (("base", logs.DATE), ("int4", logs.LATER)):
        file = logs.write_run(
            tmp_path / "runs", {"arc": records("arc", 0.0)}, model=f"org/{name}", date=date
        )
        results = json.loads(file.read_text())
        results["config"]["model_args"] = planted(name)
        file.write_text(json.dumps(results))
    said = call("compare", tmp_path / "runs", tmp_path / "runs")
    assert said.code == 2
    assert SHOWN in said.err
    assert SECRET not in said.err


def test_what_run_keeps_and_says_holds_no_secret(tmp_path: Path) -> None:
    """The state of a run's folder, and each line; the harness itself is given the real ones."""
    given = f"model=org/base,api_key={SECRET}a,dtype={SHOWN}"
    schedule = schedule_runs(
        baseline=given,
        compressed=[
            given.replace("base", "int4"),
            json.dumps({"model": "x", "token": f"{SECRET}b"}),
        ],
        tasks="arc",
        output_path=tmp_path / "out",
        model="local-completions",
        arguments=["--gen_kwargs", f"api_key={SECRET}c", "--hf_hub_log_args", f"token={SECRET}d"],
    )
    for run in schedule.runs:
        write_state(run.folder, run.settings, finished=False)
        assert SECRET in " ".join(run.command())
    said = next(iter(run_all(schedule)))
    written = dict(texts(tmp_path / "out", said))
    assert [name for name, text in written.items() if SECRET in text] == []
    assert SHOWN in written["printed"]
    assert SHOWN in (tmp_path / "out/baseline/evaluation.json").read_text()


def test_another_key_makes_no_other_run(tmp_path: Path) -> None:
    """A run goes on with a new key; another model is refused, so that the check can fail."""

    def lines(args: str) -> Iterator[str]:
        return run_all(
            schedule_runs(
                baseline=args,
                compressed=["model=int4"],
                tasks="arc",
                output_path=tmp_path,
                model="local-completions",
            )
        )

    first = schedule_runs(
        baseline="model=base,api_key=one",
        compressed=["model=int4"],
        tasks="arc",
        output_path=tmp_path,
        model="local-completions",
    )
    write_state(first.baseline.folder, first.baseline.settings, finished=False)
    assert "evaluating model=base,api_key=***" in next(iter(lines("model=base,api_key=two")))
    with pytest.raises(ValueError, match=r"--model_args model=base,api_key=\*\*\*, now model=oth"):
        next(iter(lines("model=other,api_key=one")))
