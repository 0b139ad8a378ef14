"""Runs in a bucket: a real S3 server, and s3fs as people use it, by its environment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import compare
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.remote import here
from lm_eval_flips.logs.runs import load_run
from tests.generators import folders, logs

boto3 = pytest.importorskip("boto3")
threaded = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

SAMPLES = f"samples_law_{logs.DATE}.jsonl"
PLACE = "runs/int4/org__llama-int4"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    running = threaded.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket that holds a baseline and a compressed run, as anybody's environment names it."""
    for name, value in {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "planted-id",
        "AWS_SECRET_ACCESS_KEY": "planted-s3cr3t",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").create_bucket(Bucket=tmp_path.name.replace("_", "-")[:60])
    for name, noise in (("baseline", 0.0), ("int4", 3.0)):
        folders.write_one(tmp_path / "runs", name, noise, tasks=("arc", "law"))
    for file in (tmp_path / "runs").rglob("*.json*"):
        made.upload_file(str(file), file.relative_to(tmp_path).as_posix())
    yield made
    made.objects.delete()
    made.delete()


def test_runs_in_a_bucket_are_compared(bucket: Any, tmp_path: Path) -> None:
    """As on this machine; what was fetched is told byte for byte, and once."""
    told: list[int] = []
    at = f"s3://{bucket.name}/runs"
    run = load_run(f"{at}/int4", progress=lambda size, total: told.append(size))
    files = list((tmp_path / "runs/int4").rglob("*.json*"))
    assert sum(told) == sum(file.stat().st_size for file in files)
    load_run(Path(f"{at}/int4"), progress=lambda size, total: told.append(size))
    assert sum(told) == sum(file.stat().st_size for file in files)
    there = compare(f"{at}/baseline", run).compressed[0]
    local = compare(tmp_path / "runs/baseline", tmp_path / "runs/int4").compressed[0]
    assert there.pooled.numbers == local.pooled.numbers
    assert there.path == f"{at}/int4/org__llama-int4/results_{logs.DATE}.json"


def test_a_file_that_changes_once_while_it_is_fetched_is_fetched_again(bucket: Any) -> None:
    """What is read is what lies there in the end."""
    changed: list[int] = []

    def change(size: int, total: int) -> None:
        if not changed:
            changed.append(size)
            bucket.put_object(Key=f"{PLACE}/{SAMPLES}", Body=b"after\n")

    folder = here(f"s3://{bucket.name}/runs/int4", progress=change)
    assert (folder / "org__llama-int4" / SAMPLES).read_bytes() == b"after\n"


def test_a_file_that_keeps_changing_is_refused_by_name(bucket: Any) -> None:
    """Twice is enough: it is being written."""

    def change(size: int, total: int) -> None:
        body = b"x" * (1 + len(list(bucket.object_versions.all())))
        change.count += 1  # type: ignore[attr-defined]
        bucket.put_object(Key=f"{PLACE}/{SAMPLES}", Body=body * change.count)  # type: ignore[attr-defined]

    change.count = 0  # type: ignore[attr-defined]
    with pytest.raises(FlipsError, match=f"/{PLACE}/{SAMPLES}' changed while it was read, 2 times"):
        here(f"s3://{bucket.name}/runs/int4", progress=change)
    # the control: it is read once nobody writes
    assert here(f"s3://{bucket.name}/runs/int4").is_dir()


def test_a_file_that_disappears_meanwhile_is_named(bucket: Any) -> None:
    """It is listed, and then it is gone."""

    def remove(size: int, total: int) -> None:
        bucket.Object(f"{PLACE}/{SAMPLES}").delete()

    with pytest.raises(
        FlipsError, match=f"/{PLACE}/{SAMPLES}' disappeared while it was read; comp"
    ):
        here(f"s3://{bucket.name}/runs/int4", progress=remove)


def test_what_is_not_there_is_said(bucket: Any) -> None:
    """No bucket, no folder, a folder without a run, a bucket's whole."""
    bucket.put_object(Key="empty/a.txt", Body=b"")
    for address, said in (
        ("s3://no-such-bucket/runs", "'s3://no-such-bucket/runs' does not exist; give an lm_eval"),
        (f"s3://{bucket.name}/none", f"'s3://{bucket.name}/none' does not exist; give an lm_eval"),
        (f"s3://{bucket.name}/empty", f"'s3://{bucket.name}/empty' holds no results_.*of lm_eval"),
        (f"s3://{bucket.name}/runs", "holds several runs; give one of them: s3://.*/baseline, s3"),
    ):
        with pytest.raises(FlipsError, match=said):
            load_run(address)


def test_what_may_not_be_read_is_said(
    bucket: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403 and credentials that are nowhere: the environment is named, what is in it is not."""
    import requests

    # from now on the server knows nobody
    requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        with pytest.raises(
            FlipsError, match="may not be read .*environment .AWS_ACCESS_KEY_ID,"
        ) as no:
            load_run(f"s3://{bucket.name}/runs/int4")
    finally:
        requests.post(f"{server}/moto-api/reset-auth", data=b"inf", timeout=10)
    assert "planted" not in str(no.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    with pytest.raises(
        FlipsError, match="may not be read .*NoCredentialsError.*: credentials come"
    ):
        load_run(f"s3://{bucket.name}/runs/int4")


def test_a_store_that_does_not_answer_is_said(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: an error, and no endless retry."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        FlipsError, match="cannot be reached .*EndpointConnectionError.; check the a"
    ):
        load_run(f"s3://{bucket.name}/runs/int4")
