"""Folders of shards: what is written is read back, and what was broken is told by file."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from lm_eval_flips import FlipsError
from lm_eval_flips.scoring import shards
from lm_eval_flips.scoring.shards import (
    FORMAT,
    MANIFEST,
    SHARD_SECONDS,
    File,
    Header,
    ShardWriter,
    difference,
    read_manifest,
    read_tensor_file,
    tensor_file,
)


class Plain(Header, frozen=True, kw_only=True):
    """A header of two fields, one of which may be missing."""

    model: str
    top: int | None = None


class Other(Header, frozen=True, kw_only=True):
    """A header of another kind."""

    folder: str


HEADER = Plain(model="tiny", top=5)
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
)


def values(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    """Seeded numbers of any dtype."""
    generator = torch.Generator().manual_seed(seed)
    return (100 * torch.rand(*shape, generator=generator)).to(dtype)


def written(folder: Path, *parts: int) -> list[Tensor]:
    """Write shards of so many numbers each; what they hold."""
    writer = ShardWriter(folder, HEADER)
    tensors = [values(torch.float32, size, seed=size) for size in parts]
    for tensor in tensors:
        writer.add({"x": tensor})
        writer.flush()
    return tensors


def read(folder: Path) -> list[dict[str, Tensor]]:
    """All shards that a folder's manifest names."""
    return [read_tensor_file(folder, file) for file in read_manifest(folder, Plain).shards]


def assert_holds(folder: Path, expected: list[Tensor]) -> None:
    """The folder's shards are these, one tensor ``x`` each, to the last bit."""
    found = [shard["x"] for shard in read(folder)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond this many bytes: writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_back_as_written(tmp_path: Path, dtype: torch.dtype) -> None:
    """Two parts of a shard follow each other; shape and bits are the same."""
    parts = values(dtype, 3, 4), values(dtype, 2, 4, seed=1)
    writer = ShardWriter(tmp_path, HEADER)
    for part in parts:
        writer.add({"x": part})
    writer.flush()
    assert_holds(tmp_path, [torch.cat(parts)])


def test_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    """Numbers that JSON has not."""
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    writer = ShardWriter(tmp_path, HEADER)
    writer.add({"x": odd})
    writer.flush()
    (found,) = read(tmp_path)
    assert torch.equal(found["x"].view(torch.int32), odd.view(torch.int32))


def test_views_and_empty_tensors_are_written_whole(tmp_path: Path) -> None:
    """What lies in memory with gaps or in another order, and what holds nothing."""
    square = values(torch.float32, 4, 4)
    file = tensor_file(tmp_path, "one", {"t": square.T, "step": square[:, ::2], "no": square[:0]})
    found = read_tensor_file(tmp_path, file)
    assert torch.equal(found["t"], square.T)
    assert torch.equal(found["step"], square[:, ::2])
    assert found["no"].shape == (0, 4)


def test_read_back_check_can_fail(tmp_path: Path) -> None:
    """Control for the tests above: another number, dtype, order or count is seen."""
    tensors = written(tmp_path, 3, 5)
    assert_holds(tmp_path, tensors)
    moved = [tensors[0] + 1e-5, tensors[1]]
    for wrong in (moved, tensors[::-1], tensors[:1], [tensor.double() for tensor in tensors]):
        with pytest.raises(AssertionError, match="assert"):
            assert_holds(tmp_path, wrong)


def test_manifest_names_size_and_checksum_of_every_shard(tmp_path: Path) -> None:
    """As JSON for anyone to read, with the header and the format."""
    written(tmp_path, 3, 5)
    content = msgspec.json.decode((tmp_path / MANIFEST).read_bytes())
    assert content["format"] == FORMAT
    assert content["header"] == {"model": "tiny", "top": 5}
    assert [file["name"] for file in content["shards"]] == [
        "00000.safetensors",
        "00001.safetensors",
    ]
    for file in content["shards"]:
        data = (tmp_path / file["name"]).read_bytes()
        assert file["bytes"] == len(data)
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert sorted(os.listdir(tmp_path)) == [
        "00000.safetensors",
        "00001.safetensors",
        MANIFEST,
    ]


def test_new_folder_is_made_with_a_manifest_of_no_shards(tmp_path: Path) -> None:
    """Also below folders that do not exist; nothing waiting is nothing to write."""
    folder = tmp_path / "a" / "b"
    ShardWriter(folder, HEADER).flush()
    assert os.listdir(folder) == [MANIFEST]
    manifest = read_manifest(folder, Plain)
    assert (manifest.header, manifest.shards) == (HEADER, [])


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "empty", "missing"])
@pytest.mark.parametrize("number", [0, 1])
def test_broken_shard_is_told_by_its_name(tmp_path: Path, damage: str, number: int) -> None:
    """Cut off, one bit changed, more at its end, empty or gone; the other is still read."""
    tensors = written(tmp_path, 3, 5)
    path = tmp_path / f"0000{number}.safetensors"
    data = path.read_bytes()
    path.unlink()
    broken = {
        "cut": data[:-1],
        "changed": data[:-1] + bytes([data[-1] ^ 1]),
        "longer": data + b"\0",
        "empty": b"",
    }
    if damage != "missing":
        path.write_bytes(broken[damage])
    files = read_manifest(tmp_path, Plain).shards
    problem = "cannot be read: No such file" if damage == "missing" else "is not what was written"
    with pytest.raises(FlipsError, match=f"0000{number}.safetensors' {problem}.*record it again"):
        read_tensor_file(tmp_path, files[number])
    intact = read_tensor_file(tmp_path, files[1 - number])
    assert torch.equal(intact["x"], tensors[1 - number])


def test_folder_without_manifest_is_told(tmp_path: Path) -> None:
    """Neither an empty folder, nor one that does not exist, nor a file."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FlipsError, match=f"'{folder}' has no manifest.json; record it first"):
            read_manifest(folder, Plain)
    with pytest.raises(FlipsError, match=r"file/manifest.json' cannot be read: .*Not a directory"):
        read_manifest(tmp_path / "file", Plain)


def test_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    """Whatever else it holds; the message names both formats."""
    written(tmp_path, 3)
    path = tmp_path / MANIFEST
    path.write_bytes(b'{"format": 7, "tables": []}')
    with pytest.raises(FlipsError, match=f"has format 7, .* reads {FORMAT}; record it again"):
        read_manifest(tmp_path, Plain)
    with pytest.raises(FlipsError, match="has format 7"):
        ShardWriter(tmp_path, HEADER)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read: Input data was truncated"),
        (b"PK\x03\x04", "cannot be read: JSON is malformed"),
        (b'{"format": 1, "header": {"model": "ti', "cannot be read: Input data was truncated"),
        (b"[1, 2]", "cannot be read: Expected `object`"),
        (b'{"header": {"model": "tiny"}, "shards": []}', "cannot be read: .*`format`"),
        (b'{"format": "1"}', "cannot be read: Expected `int`"),
        (b'{"format": 1, "header": {"model": "tiny"}}', "is no manifest of this kind: .*`shards`"),
        (b'{"format": 1, "header": {"model": 3}, "shards": []}', r"kind: .*\$.header.model"),
        (b'{"format": 1, "header": {"model": "\xff"}, "shards": []}', "kind: 'utf-8' codec"),
    ],
)
def test_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """No JSON, half of it, or JSON of something else; reading and continuing say the same."""
    path = tmp_path / MANIFEST
    path.write_bytes(content)
    with pytest.raises(FlipsError, match=f"'{path}' {problem}|'{path}' is no manifest.*{problem}"):
        read_manifest(tmp_path, Plain)
    with pytest.raises(FlipsError, match=problem):
        ShardWriter(tmp_path, HEADER)


def test_header_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The folder holds something else: its first missing field is named."""
    written(tmp_path, 3)
    with pytest.raises(FlipsError, match="is no manifest of this kind: .*`folder` - at .*header"):
        read_manifest(tmp_path, Other)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Plain(model="large", top=5), "model tiny, not large"),
        (Plain(model="tiny", top=None), "top 5, not None"),
        (Plain(model="large", top=6), "model tiny, not large"),
    ],
)
def test_folder_begun_with_another_header_is_not_continued(
    tmp_path: Path, other: Plain, words: str
) -> None:
    """The first field that differs is named with both values; nothing is changed."""
    tensors = written(tmp_path, 3)
    before = (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(FlipsError, match=f"was begun with {words}; give another folder"):
        ShardWriter(tmp_path, other)
    assert (tmp_path / MANIFEST).read_bytes() == before
    assert_holds(tmp_path, tensors)
    assert difference(HEADER, other) == words
    assert difference(HEADER, Plain(model="tiny", top=5)) is None


def test_folder_is_continued_behind_what_it_holds(tmp_path: Path) -> None:
    """A second and a third writer append; what was there stays as it is."""
    tensors = written(tmp_path, 3)
    first = (tmp_path / "00000.safetensors").read_bytes()
    tensors += written(tmp_path, 4, 6)
    tensors += written(tmp_path, 2)
    assert_holds(tmp_path, tensors)
    assert (tmp_path / "00000.safetensors").read_bytes() == first


def test_what_was_not_flushed_is_lost_and_nothing_else(tmp_path: Path) -> None:
    """A writer that never came to its end leaves a shorter folder, which can be continued."""
    tensors = written(tmp_path, 3)
    ShardWriter(tmp_path, HEADER).add({"x": values(torch.float32, 9)})
    assert_holds(tmp_path, tensors)
    tensors += written(tmp_path, 4)
    assert_holds(tmp_path, tensors)


def test_interrupted_writes_leave_a_readable_folder(tmp_path: Path) -> None:
    """Half of a shard, half of a manifest, and a shard that no manifest names yet."""
    tensors = written(tmp_path, 3)
    (tmp_path / ".00001.safetensors.tmp").write_bytes(b"half")
    (tmp_path / f".{MANIFEST}.tmp").write_bytes(b"{")
    (tmp_path / "00001.safetensors").write_bytes(b"of a run that was stopped")
    assert_holds(tmp_path, tensors)
    tensors += written(tmp_path, 4)
    assert_holds(tmp_path, tensors)
    assert not list(tmp_path.glob(".*"))


def test_shard_is_written_when_enough_bytes_are_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, and what was written counts no more."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 40)
    writer = ShardWriter(tmp_path, HEADER)
    small = values(torch.float32, 5)
    for _ in range(2):
        writer.add({"x": small})
        assert not writer.flush_if_due()
        writer.add({"x": small})
        assert writer.flush_if_due()
    assert_holds(tmp_path, [torch.cat([small, small])] * 2)


def test_shard_is_written_when_something_waited_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little it is; the time counts from the last shard."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer = ShardWriter(tmp_path, HEADER)
    small = values(torch.float32, 5)
    for _ in range(2):
        writer.add({"x": small})
        now += SHARD_SECONDS - 1
        assert not writer.flush_if_due()
        now += 1
        assert writer.flush_if_due()
    assert_holds(tmp_path, [small] * 2)


def test_disk_that_is_full_is_told_and_earlier_shards_stay(tmp_path: Path) -> None:
    """The file that found no room is named; with room again, the same writer goes on."""
    tensors = written(tmp_path, 100)
    before = sorted(os.listdir(tmp_path))
    writer = ShardWriter(tmp_path, HEADER)
    large = values(torch.float32, 50_000)
    writer.add({"x": large})
    message = "00001.safetensors' cannot be written: File too large; what was finished is kept"
    with file_size_limit(100_000), pytest.raises(FlipsError, match=message):
        writer.flush()
    assert sorted(os.listdir(tmp_path)) == before
    assert_holds(tmp_path, tensors)
    writer.flush()
    assert_holds(tmp_path, [*tensors, large])


@pytest.mark.parametrize(
    ("fails", "name"), [(1, "00001.safetensors"), (2, MANIFEST)], ids=["shard", "manifest"]
)
def test_no_space_left_is_told_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, name: str
) -> None:
    """Whether it is the shard or the manifest for which there was no room."""
    tensors = written(tmp_path, 3)
    writer = ShardWriter(tmp_path, HEADER)
    writer.add({"x": values(torch.float32, 4)})
    calls = iter(range(1, 100))

    def full(_: int) -> None:
        if next(calls) == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FlipsError, match=f"{name}' cannot be written: No space left on device"):
        writer.flush()
    assert not list(tmp_path.glob(".*"))
    assert_holds(tmp_path, tensors)
    writer.flush()
    writer.flush()
    assert_holds(tmp_path, [*tensors, values(torch.float32, 4)])


@pytest.mark.parametrize("below", ["", "runs/reference"])
def test_file_in_place_of_a_folder_is_told(tmp_path: Path, below: str) -> None:
    """Neither the folder nor one above it can be a file."""
    (tmp_path / "file").write_text("kept")
    with pytest.raises(FlipsError, match=f"'{tmp_path}/file/.*{MANIFEST}' cannot be written"):
        ShardWriter(tmp_path / "file" / below, HEADER)
    assert (tmp_path / "file").read_text() == "kept"


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_loading_executes_nothing(tmp_path: Path) -> None:
    """A pickle in a shard's place, its checksum in the manifest, is refused and not run."""
    written(tmp_path, 3)
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(_Trap(trace)))
    assert trace.exists(), "the trap works"
    trace.unlink()
    for content in (pickle.dumps(_Trap(trace)), _torch_pickle(_Trap(trace), tmp_path / "saved")):
        (tmp_path / "00000.safetensors").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        file = File(name="00000.safetensors", bytes=len(content), sha256=digest)
        with pytest.raises(FlipsError, match="00000.safetensors' holds no tensors: .*again"):
            read_tensor_file(tmp_path, file)
        assert not trace.exists()


def _torch_pickle(value: object, path: Path) -> bytes:
    torch.save(value, path)
    return path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\x02\0\0\0\0\0\0\0{}more", b"text" * 9])
def test_file_that_holds_no_tensors_is_told(tmp_path: Path, content: bytes) -> None:
    """Whatever its checksum says."""
    (tmp_path / "x").write_bytes(content)
    file = File(name="x", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(FlipsError, match="x' holds no tensors: "):
        read_tensor_file(tmp_path, file)
