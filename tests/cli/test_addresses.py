"""Every verb that compares takes addresses; none writes to one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole
from tests.cli.conftest import Called
from tests.generators import folders

AT = "memory://bucket/runs"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A baseline and two compressed runs, here and in fsspec's memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    system = fsspec.filesystem("memory")
    system.store.clear()
    folder = tmp_path / "runs"
    for name, noise in (("baseline", 0.0), ("int8", 0.2), ("int4", 3.0)):
        folders.write_one(folder, name, noise, tasks=("arc",))
        for file in (folder / name).rglob("*.json*"):
            system.pipe(f"/bucket/runs/{file.relative_to(folder)}", file.read_bytes())
    yield folder
    system.store.clear()


def test_verbs_say_the_same_of_runs_at_an_address(call: Called, runs: Path, tmp_path: Path) -> None:
    """compare, gate, plan and leaderboard; what they print names the address."""
    out = tmp_path / "out"
    asked = {
        "compare": ["baseline", "int8", "int4", "--json", out / "compare.json"],
        "gate": ["baseline", "int4", "--max-flips", "0.1", "--json", out / "gate.json"],
        "plan": ["baseline", "--budget", "10", "--output", out / "plan.json"],
    }
    for verb, arguments in asked.items():
        said = []
        for place in (str(runs), AT):
            given = [f"{place}/{a}" if a in ("baseline", "int8", "int4") else a for a in arguments]
            done = call(verb, *given, "--overwrite")
            texts = [done.out, *(file.read_text() for file in sorted(out.glob(f"{verb}*.json")))]
            said.append((done.code, *(text.replace(place, "PLACE") for text in texts)))
        assert said[0] == said[1], verb
        assert "PLACE" in str(said[1]), verb


def test_a_board_at_an_address_is_kept_and_renewed(
    call: Called, runs: Path, tmp_path: Path
) -> None:
    """The second time nothing is computed, unless a run has changed; the page names addresses."""
    asked = ("leaderboard", AT, "--baseline", f"{AT}/baseline", "--json", tmp_path / "b.json")
    first, second = call(*asked), call(*asked)
    assert "2 computed, 0 kept" in first.out, first.err
    assert "0 computed, 2 kept" in second.out, second.err
    paths = [model["path"] for model in json.loads((tmp_path / "b.json").read_text())["runs"]]
    assert all(path.startswith(f"{AT}/int") for path in paths)
    (file,) = (runs / "int8").rglob("samples_arc*")
    (place,) = (
        name for name in fsspec.filesystem("memory").find("/bucket/runs/int4") if "arc" in name
    )
    fsspec.filesystem("memory").pipe(place, file.read_bytes())
    assert "1 computed, 1 kept" in call(*asked).out


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "A", "B", "--json", "s3://b/x.json"), "--json 's3://b/x.json' cannot be writ"),
        (
            ("compare", "A", "B", "--plots", "s3://b/x"),
            "--plots 's3://b/x' cannot be written: addr",
        ),
        (("report", "A", "B", "-o", "gs://b/x.html"), "--output 'gs://b/x.html' cannot be written"),
        (
            ("judge", "A", "--judge-model", "m", "--base-url", "http://127.0.0.1:1/v1"),
            "judgements i",
        ),
        (
            ("leaderboard", "A", "--baseline", "A", "--csv", "x.csv", "--cache", "s3://b"),
            "--cache '",
        ),
        (
            ("compress", "model", "--scheme", "int8", "--output", "s3://b"),
            "--output 's3://b' cannot be written",
        ),
        (
            ("compare", "s3x://ann:s3cr3t@h/x?token=s3cr3t", "B"),
            "'s3x://***@h/x?token=***' begins wi",
        ),
    ],
)
def test_what_is_no_address_to_write_to_is_an_error_of_one_line(
    call: Called, arguments: tuple[str, ...], said: str
) -> None:
    """It names the option; and no secret of an address is printed."""
    given = [{"A": f"{AT}/baseline", "B": f"{AT}/int4"}.get(a, a) for a in arguments]
    done = call(*given)
    assert done.code == 2
    assert done.err.startswith(f"error: {said}"), done.err
    assert done.err.count("\n") == 1
    assert "s3cr3t" not in done.err


def test_nothing_is_written_to_an_address_from_python() -> None:
    """Not even a folder that is called so."""
    with pytest.raises(FlipsError, match="'s3://b/x' cannot be written: addresses are only read"):
        write_whole(Path("s3://b/x"), b"")
    assert not Path("s3:").exists()


def test_a_file_s_address_is_its_path(call: Called, runs: Path) -> None:
    """file:///… as a shell gives it, of whose slashes pathlib leaves one."""
    here = call("compare", runs / "baseline", runs / "int8")
    there = call("compare", f"file://{runs}/baseline", f"file://{runs}/int8")
    assert (here.code, here.out) == (there.code, there.out)
    gone = call("compare", f"file://{runs}/nothing", f"file://{runs}/int8")
    assert gone.code == 2
    assert f"'{runs}/nothing' does not exist" in gone.err


def test_a_hub_that_is_not_there_is_one_line(runs: Path) -> None:
    """The model hub's own library fails with exceptions of its own; nobody listens at port 9."""
    command = [sys.executable, "-m", "lm_eval_flips", "compare", "hf://datasets/me/logs"]
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_no"}
    done = subprocess.run(
        [*command, str(runs / "int8")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 'hf://datasets/me/logs' cannot be reached (")
    assert "hf_no" not in line
