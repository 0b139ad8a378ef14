"""Distances on disk: what was added is found by its key, in every process's part, once."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring import shards
from lm_eval_flips.scoring.requests import Answer
from lm_eval_flips.scoring.token_distances import (
    FIELDS,
    DistancesHeader,
    DistanceWriter,
    StoredDistances,
    TokenDistances,
    load_distances,
)

HEADER = DistancesHeader(
    model="org/int4",
    revision="main",
    dtype="bfloat16",
    baseline="org/base",
    baseline_dtype="float32",
    tokens=100,
    max_length=512,
    positions="all",
    top=None,
)


def key(number: int) -> bytes:
    """A request's key; some begin or end with zeros, as a hash may."""
    return number.to_bytes(16, "little" if number % 2 else "big")


def keys(*numbers: int) -> NDArray[np.uint64]:
    """Keys as they are asked for."""
    return np.frombuffer(b"".join(map(key, numbers)), np.uint64).reshape(-1, 2)


def distances(number: int, size: int = 3) -> TokenDistances:
    """Distances that only this request has."""
    values = torch.rand(6, size, generator=torch.Generator().manual_seed(number))
    return TokenDistances(
        kl=values[0],
        reverse_kl=values[1],
        jensen_shannon=values[2],
        total_variation=values[3],
        same_top=values[4] > 0.5,
        logprob_change=values[5] - 0.5,
    )


def answer(number: int) -> Answer:
    """The answer to a request, whose KL is the mean over its distances."""
    kl = float(distances(number, size(number)).kl.double().mean())
    return Answer(-number / 7, number % 2 == 0, kl)


def size(number: int) -> int:
    """Positions of a request."""
    return 1 + number % 4


def add(writer: DistanceWriter, numbers: Sequence[int]) -> None:
    """Add some requests."""
    for number in numbers:
        writer.add(
            key(number),
            answer(number),
            [distances(number, size(number))],
            baseline_loglikelihood=-number / 3,
        )


def write(folder: Path, numbers: Sequence[int]) -> DistanceWriter:
    """Begin or continue a folder with some requests."""
    writer = DistanceWriter(folder, HEADER)
    add(writer, numbers)
    writer.flush()
    return writer


def loaded(folder: Path) -> StoredDistances:
    """What a folder holds, which is something."""
    found = load_distances(folder)
    assert found is not None
    return found


def at(stored: StoredDistances, number: int) -> dict[str, Any]:
    """All stored values of a request."""
    (place,) = stored.find(keys(number)).tolist()
    assert place >= 0
    own = slice(stored.starts[place], stored.starts[place + 1])
    return {name: values[own] for name, values in stored.values.items()}


def assert_holds(stored: StoredDistances, numbers: Sequence[int]) -> None:
    """Each request with its own distances and answers, to the last bit, and no other request."""
    assert len(stored.keys) == len(stored.starts) - 1 == len(numbers)
    for number in numbers:
        values = at(stored, number)
        assert tuple(values) == FIELDS
        for name in FIELDS:
            expected = getattr(distances(number, size(number)), name)
            assert values[name].dtype == expected.dtype
            assert torch.equal(values[name], expected)
        (place,) = stored.find(keys(number)).tolist()
        assert stored.loglikelihoods[place] == -number / 7
        assert stored.baseline_loglikelihoods[place] == -number / 3


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Whatever the number of positions."""
    write(tmp_path, range(1, 30))
    stored = loaded(tmp_path)
    assert_holds(stored, range(1, 30))
    assert stored.header == HEADER
    assert stored.folder == tmp_path


def test_the_check_of_what_was_read_back_can_fail(tmp_path: Path) -> None:
    """Control: a request that is missing, or one that has another's distances, is seen."""
    writer = write(tmp_path, range(1, 5))
    with pytest.raises(AssertionError):
        assert_holds(loaded(tmp_path), range(1, 6))
    writer.add(key(5), answer(5), [distances(6, size(5))], baseline_loglikelihood=-5 / 3)
    writer.flush()
    with pytest.raises(AssertionError):
        assert_holds(loaded(tmp_path), range(1, 6))


def test_keys_that_are_not_there_are_told(tmp_path: Path) -> None:
    """In any order, once or more, among those that are there."""
    write(tmp_path, [9, 2, 5])
    stored = loaded(tmp_path)
    places = stored.find(keys(5, 1, 9, 9, 256, 2, 0))
    assert places.tolist() == [2, -1, 0, 0, -1, 1, -1]
    assert stored.find(keys()).tolist() == []


def test_keys_that_differ_in_one_byte_are_different(tmp_path: Path) -> None:
    """Also where all others are zero."""
    near = [bytes([1, *[0] * 15]), bytes([1, *[0] * 14, 1]), bytes(16), bytes([0, 1, *[0] * 14])]
    asked = np.frombuffer(b"".join(near), np.uint64).reshape(-1, 2)
    write(tmp_path / "one", [1])
    assert key(1) == near[0]
    assert loaded(tmp_path / "one").find(asked).tolist() == [0, -1, -1, -1]
    write(tmp_path / "two", [0, 3, 1])
    assert loaded(tmp_path / "two").find(asked).tolist() == [2, -1, 0, -1]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A new writer knows the answers that were written, with their KL, and appends."""
    first = write(tmp_path, range(1, 6))
    add(first, range(6, 9))  # lost: it was not written
    second = DistanceWriter(tmp_path, HEADER)
    assert list(second.answers) == [key(number) for number in range(1, 6)]
    for number in range(1, 6):
        found = second.answers[key(number)]
        assert found[:2] == answer(number)[:2]
        assert found.token_kl == answer(number).token_kl
    assert_holds(loaded(tmp_path), range(1, 6))
    add(second, range(6, 12))
    second.flush()
    assert_holds(loaded(tmp_path), range(1, 12))
    assert len(list(tmp_path.glob("0*.safetensors"))) == 2


def test_the_parts_of_all_processes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a folder of its own, in several shards."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    for rank, folder in enumerate([tmp_path, tmp_path / "rank-1", tmp_path / "rank-10"]):
        writer = DistanceWriter(folder, HEADER)
        for number in range(1 + rank, 22, 3):
            add(writer, [number])
            writer.flush_if_due()
        assert len(list(folder.glob("0*.safetensors"))) == 7
    assert_holds(loaded(tmp_path), range(1, 22))


def test_little_that_waits_is_not_written_yet(tmp_path: Path) -> None:
    """A shard is written when it is large enough, or asked for."""
    writer = DistanceWriter(tmp_path, HEADER)
    add(writer, [1])
    writer.flush_if_due()
    assert load_distances(tmp_path) is None
    writer.flush()
    assert_holds(loaded(tmp_path), [1])


def test_the_same_text_is_stored_once(tmp_path: Path) -> None:
    """In two tasks, in one go or after a restart; the first answer stays."""
    writer = write(tmp_path, [1, 2, 1])
    writer.add(key(2), Answer(-9.0, True), [distances(7)], baseline_loglikelihood=-9.0)
    writer.flush()
    write(tmp_path, [2, 3])
    assert_holds(loaded(tmp_path), [1, 2, 3])


def test_the_windows_of_a_text_follow_each_other(tmp_path: Path) -> None:
    """One request with all their positions."""
    writer = DistanceWriter(tmp_path, HEADER)
    parts = [distances(1, 3), distances(2, 1), distances(3, 2)]
    writer.add(key(1), Answer(-1.0, False), parts, baseline_loglikelihood=-2.0)
    add(writer, [2])
    writer.flush()
    stored = loaded(tmp_path)
    assert stored.starts.tolist() == [0, 6, 6 + size(2)]
    found = at(stored, 1)
    for name in FIELDS:
        assert torch.equal(found[name], torch.cat([getattr(part, name) for part in parts]))
    again = DistanceWriter(tmp_path, HEADER).answers[key(1)]
    assert again.token_kl == float(torch.cat([part.kl for part in parts]).double().mean())


def test_an_empty_text_has_no_position(tmp_path: Path) -> None:
    """And stays between the others, with the answer that it got."""
    writer = DistanceWriter(tmp_path, HEADER)
    add(writer, [1])
    writer.add(key(4), Answer(0.0, True), [], baseline_loglikelihood=0.0)
    add(writer, [2])
    writer.flush()
    stored = loaded(tmp_path)
    assert stored.starts.tolist() == [0, size(1), size(1), size(1) + size(2)]
    assert {values.numel() for values in at(stored, 4).values()} == {0}
    assert torch.equal(at(stored, 2)["kl"], distances(2, size(2)).kl)
    assert stored.values["same_top"].dtype == torch.bool
    again = DistanceWriter(tmp_path, HEADER).answers[key(4)]
    assert again[:2] == (0.0, True)
    assert isnan(again.token_kl)


@pytest.mark.parametrize("value", [nan, -torch.inf, -1 / 3, 0.0])
def test_answers_are_kept_to_the_last_digit(tmp_path: Path, value: float) -> None:
    """Also nan and -inf."""
    writer = DistanceWriter(tmp_path, HEADER)
    writer.add(key(1), Answer(value, False), [distances(1)], baseline_loglikelihood=value)
    writer.flush()
    stored = loaded(tmp_path)
    expected = np.array([value])
    np.testing.assert_array_equal(stored.loglikelihoods, expected)
    np.testing.assert_array_equal(stored.baseline_loglikelihoods, expected)
    again = DistanceWriter(tmp_path, HEADER).answers[key(1)].loglikelihood
    np.testing.assert_array_equal([again], expected)


def test_nothing_written_is_none(tmp_path: Path) -> None:
    """A run that was begun, or whose processes have done nothing yet; no folder is an error."""
    DistanceWriter(tmp_path, HEADER).flush()
    DistanceWriter(tmp_path / "rank-1", HEADER)
    assert load_distances(tmp_path) is None
    with pytest.raises(FlipsError, match=r"has no manifest\.json"):
        load_distances(tmp_path / "elsewhere")


def test_what_only_another_process_wrote_is_found(tmp_path: Path) -> None:
    """The first one may have been interrupted before its first shard."""
    DistanceWriter(tmp_path, HEADER)
    write(tmp_path / "rank-1", [3])
    assert_holds(loaded(tmp_path), [3])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "org/int8"),
        ("revision", "v2"),
        ("dtype", "float16"),
        ("baseline", "org/another"),
        ("baseline_dtype", "bfloat16"),
        ("tokens", 99),
        ("max_length", 256),
        ("positions", "last"),
        ("top", 10),
        ("files", "made anew"),
    ],
)
def test_distances_of_another_pair_are_refused(tmp_path: Path, field: str, value: Any) -> None:
    """The field that differs is named with both values; what is there stays."""
    write(tmp_path, [1, 2])
    before = getattr(HEADER, field)
    with pytest.raises(FlipsError, match=f"was begun with {field} {before}, not {value}; give"):
        DistanceWriter(tmp_path, msgspec.structs.replace(HEADER, **{field: value}))
    assert_holds(loaded(tmp_path), [1, 2])


def test_every_field_of_the_header_is_tried() -> None:
    """The test above refuses each of them."""
    (mark,) = test_distances_of_another_pair_are_refused.pytestmark
    assert [field for field, _ in mark.args[1]] == list(DistancesHeader.__struct_fields__)


@pytest.mark.parametrize("read", [load_distances, lambda folder: DistanceWriter(folder, HEADER)])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, read: Any) -> None:
    """By who compares and by who goes on."""
    write(tmp_path, [1, 2])
    path = tmp_path / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FlipsError, match="is not what was written: cut off or changed"):
        read(tmp_path)
