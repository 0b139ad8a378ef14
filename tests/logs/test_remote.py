"""Runs at addresses: in fsspec's memory, on this machine, and behind a web server."""

from __future__ import annotations

import functools
import http.server
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lm_eval_flips import compare
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.leaderboard.discovery import find_runs
from lm_eval_flips.logs.addresses import MirroredPath, address_of, mirror_of, refuse_address
from lm_eval_flips.logs.remote import here
from lm_eval_flips.logs.remote_files import Wanted
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.report.files.document import to_json
from tests.generators import folders, logs

TASKS = ("arc", "law")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A baseline and two compressed runs on this machine."""
    for name, noise in (("baseline", 0.0), ("int8", 0.2), ("int4", 3.0)):
        folders.write_one(tmp_path / "runs", name, noise, tasks=TASKS)
    return tmp_path / "runs"


@pytest.fixture
def memory(runs: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """The same runs in memory, at memory://bucket/runs."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    put(system, runs)
    yield system
    system.store.clear()


def put(system: fsspec.AbstractFileSystem, runs: Path) -> None:
    """Copy the runs into memory."""
    for file in runs.rglob("*"):
        if file.is_file():
            system.pipe(f"/bucket/runs/{file.relative_to(runs).as_posix()}", file.read_bytes())


def numbers(comparison: Comparison, place: str) -> bytes:
    """The whole result as JSON, its runs named as if they lay elsewhere."""
    return to_json(comparison).replace(place.encode(), b"PLACE")


def mirrored(cache: Path) -> dict[str, int]:
    """The mirrored files below the bucket, and the numbers that files have on the disk."""
    root = cache / "lm-eval-flips/mirror/memory/bucket"
    return {
        file.relative_to(root).as_posix(): file.stat().st_ino
        for file in root.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("s3://bucket/run", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),
        (Path("hf://datasets/me/logs/int8"), "hf://datasets/me/logs/int8"),
        ("https://host:80/run?a=b", "https://host:80/run?a=b"),
        ("runs/int4", None),
        ("C:/runs", None),
        ("a=b:/c", None),
    ],
)
def test_an_address_is_told_from_a_path(given: str | Path, address: str | None) -> None:
    """Also where pathlib has made one slash of two."""
    assert address_of(given) == address


def test_a_folder_that_is_named_like_an_address_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies here goes first; and the control: without it, it is an address."""
    monkeypatch.chdir(tmp_path)
    assert address_of(Path("s3:/run")) == "s3://run"
    Path("s3:/run").mkdir(parents=True)
    assert address_of(Path("s3:/run")) is None


def test_a_mirrored_path_is_read_here_and_named_by_its_address() -> None:
    """So are the paths that are made of it, also in another process; a text of it opens."""
    folder = mirror_of("s3://bucket/runs//int4/../x")
    assert f"{folder}" == "s3://bucket/runs/int4/x"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (file,) = folder.glob("*.json")
    again = pickle.loads(pickle.dumps(file))
    for path in (file, again, folder / "a.json", file.parent.parent / "x" / "a.json"):
        assert f"{path}" == "s3://bucket/runs/int4/x/a.json"
        assert path.read_text() == Path(os.fspath(path)).read_text() == "{}"
    assert f"{MirroredPath('elsewhere')}" == "elsewhere"


def test_secrets_of_an_address_are_neither_shown_nor_kept() -> None:
    """Not in the mirror's place either."""
    folder = mirror_of("ftp://ann:s3cr3t@host/run")
    assert f"{folder}" == "ftp://***@host/run"
    assert "s3cr3t" not in str(folder)


@pytest.mark.usefixtures("memory")
def test_a_comparison_is_the_same_at_an_address(runs: Path) -> None:
    """Every number, warning and name; only the place differs."""
    at = "memory://bucket/runs"
    there = compare(f"{at}/baseline", f"{at}/int8", Path(f"{at}/int4"))
    local = compare(*(runs / name for name in ("baseline", "int8", "int4")))
    assert there.compressed[0].path.startswith(f"{at}/int8/org__llama-int8/results_")
    assert numbers(there, at) == numbers(local, str(runs))
    # the control: another run is seen
    assert numbers(there, at) != numbers(compare(runs / "baseline", runs / "int8"), str(runs))


def test_what_is_there_is_not_fetched_again(
    memory: fsspec.AbstractFileSystem, cache: Path, runs: Path
) -> None:
    """Only what changed is, what is gone goes, and what nobody reads never comes."""
    place = "/bucket/runs/int4/org__llama-int4"
    memory.pipe(f"{place}/model.safetensors", b"0" * 100)
    memory.pipe("/bucket/runs/int4/reference/0.safetensors", b"0" * 100)
    memory.pipe("/bucket/runs/int4/token_distances/rank_0/index.json", b"{}")
    memory.pipe("/bucket/runs/int4/compression.json", b"{}")
    load_run("memory://bucket/runs/int4")
    first = mirrored(cache)
    assert sorted(Path(name).name.partition("_2")[0] for name in first) == [
        *("compression.json", "index.json", "results", "samples_arc", "samples_law")
    ]
    assert mirrored(cache) == first
    load_run("memory://bucket/runs/int4")
    assert mirrored(cache) == first
    name = f"samples_arc_{logs.DATE}.jsonl"
    memory.pipe(f"{place}/{name}", (next(runs.glob(f"int8/*/{name}"))).read_bytes())
    memory.rm(f"{place}/samples_law_{logs.DATE}.jsonl")
    run = load_run("memory://bucket/runs/int4")
    now = mirrored(cache)
    assert set(first) - set(now) == {f"runs/int4/org__llama-int4/samples_law_{logs.DATE}.jsonl"}
    assert [other for other in now if now[other] != first[other]] == [
        f"runs/int4/org__llama-int4/{name}"
    ]
    assert [fault.code for fault in run.faults] == ["samples-missing"]


def test_a_model_folder_and_a_file_have_what_lies_beside_them(
    memory: fsspec.AbstractFileSystem, cache: Path
) -> None:
    """Distances and judgements lie one folder up; of a file its results come too."""
    memory.pipe("/bucket/runs/int4/judgements/a.jsonl", b"")
    memory.pipe("/bucket/runs/int4/notes/b.jsonl", b"")
    place = "memory://bucket/runs/int4/org__llama-int4"
    assert f"{load_run(place).judgements}" == "memory://bucket/runs/int4/judgements"
    file = load_run(f"{place}/samples_law_{logs.DATE}.jsonl")
    assert list(file.tasks) == ["law"]
    assert file.model == "org/llama-int4"
    assert not any("notes" in name for name in mirrored(cache))


def test_a_folder_of_runs_is_a_board(memory: fsspec.AbstractFileSystem, cache: Path) -> None:
    """At any depth, without the baseline; what a folder holds that is no run is not fetched."""
    memory.pipe("/bucket/runs/deep/er/still/.hidden/x.json", b"{}")
    memory.pipe("/bucket/runs/deep/er/weights.bin", b"0")
    baseline = load_run("memory://bucket/runs/baseline")
    found, left_out = find_runs(Path("memory://bucket/runs"), baseline)
    assert sorted(own.name for own in found) == ["int4", "int8"]
    assert left_out == []
    assert all(own.run.address.startswith("memory://bucket/runs/int") for own in found)
    assert not any("deep" in name for name in mirrored(cache))


def test_a_file_on_this_machine_is_read_where_it_is(runs: Path, cache: Path) -> None:
    """file:// and local:// are paths."""
    for protocol in ("file", "local"):
        run = load_run(f"{protocol}://{runs}/int4")
        assert run.path == load_run(runs / "int4").path
    assert not cache.exists()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://bucket/none", "'memory://bucket/none' does not exist; give an lm_eval output"),
        (
            "memory://bucket/runs",
            "'memory://bucket/runs' holds several runs; give one of them: mem",
        ),
        (
            "memory://bucket/other",
            "'memory://bucket/other' holds no results_.*json of lm_eval; run",
        ),
        (
            "foo://bucket/runs",
            "'foo://bucket/runs' begins with 'foo://', which fsspec does not kno",
        ),
        ("zip://runs::memory://bucket/a.zip", "is a chain of addresses; unpack it, and give one"),
        ("smb://host/runs", "'smb://host/runs' cannot be read without another library: .*smbpro"),
        ("oss://host/runs", "'oss://host/runs' cannot be read without .*: `pip install ossfs`"),
        (
            "http://127.0.0.1:1/runs",
            "'http://127.0.0.1:1/runs' cannot be reached .*Connect call failed",
        ),
    ],
)
def test_a_bad_address_is_an_error_of_one_line(
    memory: fsspec.AbstractFileSystem, address: str, said: str
) -> None:
    """It says what, which and the way out."""
    memory.pipe("/bucket/other/a.txt", b"")
    with pytest.raises(FlipsError, match=said) as raised:
        load_run(address)
    assert "\n" not in str(raised.value)


def test_no_name_leads_out_of_the_mirror(memory: fsspec.AbstractFileSystem, cache: Path) -> None:
    """A store may call a file what it likes; the control is the same file with a good name."""
    name = f"samples_law_{logs.DATE}.jsonl"
    memory.store["/bucket/runs/int4/../../../../../" + name] = memory.store[
        f"/bucket/runs/int4/org__llama-int4/{name}"
    ]
    memory.pipe(f"/bucket/runs/int4/{name}", b"")
    load_run("memory://bucket/runs/int4")
    written = [file for file in cache.parent.rglob(name) if "cache" in file.parts]
    assert sorted(f"{MirroredPath(file)}" for file in written) == [
        f"memory://bucket/runs/int4/org__llama-int4/{name}",
        f"memory://bucket/runs/int4/{name}",
    ]


def test_what_a_killed_process_was_fetching_goes(
    memory: fsspec.AbstractFileSystem, cache: Path
) -> None:
    """At the next fetch; what a running process fetches stays."""
    load_run("memory://bucket/runs/int4")
    (folder,) = {file.parent.parent for file in cache.rglob("results_*.json")}
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead, alive = folder / f".fetching-{ended.pid}-x", folder / f".fetching-{os.getpid()}-x"
    for left in (dead, alive):
        left.mkdir()
        (left / "0").write_bytes(b"half")
    memory.pipe("/bucket/runs/int4/org__llama-int4/results_2026-02-02T03-04-05.678901.json", b"{}")
    with pytest.raises(FlipsError, match="results_2026-02-02"):
        load_run("memory://bucket/runs/int4")
    assert not dead.exists()
    assert alive.exists()


def test_addresses_are_never_written(tmp_path: Path) -> None:
    """Neither an address, nor its mirror; a local file may be."""
    refuse_address(tmp_path / "a.json")
    for given in (
        Path("s3://bucket/a.json"),
        "s3://bucket/a.json",
        mirror_of("s3://bucket/a.json"),
    ):
        with pytest.raises(
            FlipsError, match="^--json 's3://bucket/a.json' cannot be written: addr"
        ):
            refuse_address(given, what="--json")


def test_a_mirror_that_cannot_be_written_is_named(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file lies where the cache folder should."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    with pytest.raises(FlipsError, match="taken/lm-eval-flips.*' cannot be read: Not a directory"):
        load_run("memory://bucket/runs/int4")


@pytest.mark.parametrize(
    ("wanted", "read"),
    [
        (Wanted(), [True, True, True, True, False, False]),
        (Wanted(tree=True), [True, True, True, True, True, False]),
        (Wanted(own=True), [False, False, True, False, False, False]),
        (Wanted(beside=f"results_{logs.DATE}.json"), [True, False, True, False, False, False]),
    ],
)
def test_what_is_read_of_a_folder(wanted: Wanted, read: list[bool]) -> None:
    """By kind and depth; weights and what only evaluating reads are left there."""
    names = [
        f"results_{logs.DATE}.json",
        f"m/samples_law_{logs.DATE}.jsonl.zst",
        "judgements/score.jsonl",
        "m/token_distances/rank_0/index.json",
        f"a/b/samples_law_{logs.DATE}.jsonl",
        "reference/0.safetensors",
    ]
    assert [wanted(name) for name in names] == read
    assert not wanted("model.safetensors")


@pytest.fixture
def web(runs: Path) -> Iterator[str]:
    """A web server that lists its folders, as Python's own does."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if "closed" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

        do_HEAD = do_GET  # noqa: N815  (http.server's names)

    handler = functools.partial(Quiet, directory=str(runs.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/runs"
        server.shutdown()
        thread.join()


def test_a_web_server_that_lists_its_folders_holds_runs(web: str, runs: Path) -> None:
    """Its listing has neither sizes nor times: each file is asked for them."""
    there, local = (
        compare(f"{web}/baseline", f"{web}/int4"),
        compare(runs / "baseline", runs / "int4"),
    )
    assert numbers(there, web) == numbers(local, str(runs))
    name = f"samples_law_{logs.DATE}.jsonl"
    one = here(f"{web}/int4/org__llama-int4/{name}?token=s3cr3t")
    assert one.read_bytes() == (runs / "int4/org__llama-int4" / name).read_bytes()
    assert f"{one}" == f"{web}/int4/org__llama-int4/{name}"


def test_a_web_server_that_forbids_is_no_missing_run(web: str) -> None:
    """403 and 404 are told apart, and no secret of the address is said."""
    with pytest.raises(
        FlipsError, match="may not be read .*403.*credentials come from the env"
    ) as no:
        load_run(f"{web.replace('//', '//ann:s3cr3t@')}/closed?token=s3cr3t")
    assert "s3cr3t" not in str(no.value)
    with pytest.raises(FlipsError, match="/none' does not exist; give an lm_eval output folder"):
        load_run(f"{web}/none")
