"""Files are written whole or not at all: on a full disk, after a kill, and through links."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import replacing, write_whole

OLD = b"the old content\n"
LIMIT = 4096  # bytes that a file may have where the disk is full

# Limits the size of files, then writes one of twice that size.
FULL = """
import resource, sys
from pathlib import Path
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_whole(Path(sys.argv[1]), b"x" * int(sys.argv[2]))
except FlipsError as error:
    print(error)
"""

# Writes one file again and again, until it is killed.
FOREVER = """
import sys
from pathlib import Path
from lm_eval_flips.logs.output_files import write_whole
number = 0
while True:
    write_whole(Path(sys.argv[1]), str(number % 10).encode() * 300_000)
    number += 1
"""


def full_disk(file: Path, size: int) -> str:
    """What is said when a file of this size is written where little room is left."""
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(limit=LIMIT), str(file), str(size)],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """One line says so, and nothing is left beside it."""
    file = tmp_path / "c.json"
    file.write_bytes(OLD)
    assert full_disk(file, 2 * LIMIT) == f"'{file}' cannot be written: File too large"
    assert file.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [file]


def test_the_check_of_a_full_disk_can_fail(tmp_path: Path) -> None:
    """Control: what has room is written; and written in place, the old content is lost."""
    file = tmp_path / "c.json"
    file.write_bytes(OLD)
    assert full_disk(file, LIMIT) == ""
    assert file.read_bytes() == b"x" * LIMIT
    in_place = FULL.replace("write_whole(Path(sys.argv[1]), ", "Path(sys.argv[1]).write_bytes(")
    in_place = in_place.replace("FlipsError as", "OSError as")
    code = [sys.executable, "-c", in_place.format(limit=LIMIT), str(file), str(2 * LIMIT)]
    file.write_bytes(OLD)
    subprocess.run(code, check=True, timeout=60, capture_output=True)
    assert file.read_bytes() != OLD


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """Ten kills at random moments: the file is always one of those that were written."""
    file = tmp_path / "c.json"
    file.write_bytes(OLD)
    seen = set()
    for pause in np.random.default_rng(0).uniform(0, 0.05, size=10):
        process = subprocess.Popen([sys.executable, "-c", FOREVER, str(file)])
        try:
            before = file.read_bytes()
            deadline = time.monotonic() + 60
            while file.read_bytes() == before and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(pause)
        finally:
            process.kill()
            process.wait()
        content = file.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
        seen.add(content[:1])
    assert len(seen) > 1  # the kills did not all come at the same place


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    """Of whatever kind; it is passed on, and what was begun is removed."""
    file = tmp_path / "table.parquet"
    file.write_bytes(OLD)

    def half() -> None:
        with replacing(file) as beside:
            beside.write_bytes(b"half")
            raise KeyError("column")

    with pytest.raises(KeyError, match="column"):
        half()
    assert file.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [file]


def test_mode_and_links_stay(tmp_path: Path) -> None:
    """A file keeps its mode, a link keeps pointing; a new file has the usual mode."""
    file, link = tmp_path / "c.json", tmp_path / "link.json"
    file.write_bytes(OLD)
    file.chmod(0o640)
    link.symlink_to(file)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "a" / "b.json", b"new")
    finally:
        os.umask(mask)
    assert (tmp_path / "a/b.json").stat().st_mode & 0o777 == 0o644


def test_a_pipe_is_written_to_itself(tmp_path: Path) -> None:
    """As is a device: there is nothing to be lost."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reading.start()
    write_whole(pipe, b"through the pipe")
    reading.join(timeout=10)
    assert read == [b"through the pipe"]
    write_whole(Path("/dev/null"), b"gone")


def test_links_in_a_circle_and_files_in_the_way_are_told(tmp_path: Path) -> None:
    """In one line, with what to do where that is known."""
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(FlipsError, match="circle' cannot be written: "):
        write_whole(circle, b"new")
    (tmp_path / "taken").write_bytes(OLD)
    with pytest.raises(FlipsError, match=r"c.json' cannot be written: .*; make room"):
        write_whole(tmp_path / "taken" / "c.json", b"new", way_out="make room")
