"""Mutations of a run's files: one fault each, drawn from a seed, with a word for what was done.

A mutation is ``plausible`` where nothing but a checksum could tell the result from an honest run:
another answer with all that belongs to it, other names. Everything else must be seen, or change
nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, "", {}, [], True, False, 0, 1, -1, 3, 0.5, 10**400, 2**63, -(2**63), 1e308),
    *(float("nan"), float("inf"), float("-inf"), "x", "none", "1", "\0", "\ud800", "\x1b]0;t\x07"),
    *([0, 1], [[]], {"a": 1}, ["acc", "acc"], "a" * 300, "-1.5", [None]),
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was done to a run's files."""

    name: str
    plausible: bool = False


def mutate(folder: Path, draw: random.Random) -> Mutation:
    """Change one of the files in a run's folder."""
    file = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    return draw.choice(MUTATORS)(file, draw)


def _bytes(file: Path, draw: random.Random) -> Mutation:
    """A few bytes flipped, removed, doubled or put in."""
    content = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 4))):
        place = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                content[place] ^= 1 << draw.randrange(8)
            case 1:
                del content[place : place + draw.choice((1, 2, 16))]
            case 2:
                content[place:place] = draw.randbytes(draw.choice((1, 3)))
            case _:
                content[place:place] = content[place : place + 8]
    file.write_bytes(content)
    return Mutation("bytes")


def _truncated(file: Path, draw: random.Random) -> Mutation:
    content = file.read_bytes()
    file.write_bytes(content[: draw.choice((0, draw.randrange(len(content)), len(content) - 1))])
    return Mutation("truncated")


def _lines(file: Path, draw: random.Random) -> Mutation:
    """Lines removed, doubled, swapped, joined, cut, or put between others."""
    lines = file.read_bytes().splitlines(keepends=True)
    place = draw.randrange(len(lines))
    kind = draw.choice(("removed", "doubled", "swapped", "joined", "cut", "foreign", "blank"))
    if kind == "removed":
        del lines[place]
    elif kind == "doubled":
        lines.insert(draw.randrange(len(lines) + 1), lines[place])
    elif kind == "swapped":
        other = draw.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == "joined":
        lines[place] = lines[place].rstrip(b"\n")
    elif kind == "cut":
        lines[place] = lines[place][: draw.randrange(len(lines[place]))] + b"\n"
    elif kind == "foreign":
        lines.insert(place, draw.choice((b"Traceback\n", b"{}\n", b"null\n", b"[1]\n", b"\xff\n")))
    else:
        lines.insert(place, draw.choice((b"\n", b"\r\n", b"  \n")))
    file.write_bytes(b"".join(lines))
    return Mutation(f"lines {kind}")


def _wrapped(file: Path, draw: random.Random) -> Mutation:
    """Another coding of the same text."""
    content = file.read_bytes()
    kind = draw.choice(("bom", "crlf", "utf-16", "zeros", "twice"))
    changed = {
        "bom": b"\xef\xbb\xbf" + content,
        "crlf": content.replace(b"\n", b"\r\n"),
        "utf-16": content.decode().encode("utf-16"),
        "zeros": content + bytes(64),
        "twice": content * 2,
    }
    file.write_bytes(changed[kind])
    return Mutation(f"wrapped {kind}")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key within a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def _json(file: Path, change: Callable[[Any], str], draw: random.Random) -> str:
    """Change the JSON of one line of the samples, or of the results."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    place = draw.randrange(len(lines))
    value = json.loads(lines[place])
    done = change(value)
    lines[place] = json.dumps(value)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return done


def _value(file: Path, draw: random.Random) -> Mutation:
    """One value replaced by an odd one."""

    def change(record: Any) -> str:
        container, key = draw.choice(list(_places(record)))
        container[key] = draw.choice(ODD)
        return str(key)

    return Mutation(f"value of {_json(file, change, draw)}")


def _top(file: Path, draw: random.Random) -> Mutation:
    """One of the outermost values replaced: those have a meaning each."""

    def change(record: Any) -> str:
        key = draw.choice(list(record))
        record[key] = draw.choice(ODD)
        return str(key)

    return Mutation(f"top value of {_json(file, change, draw)}")


def _number(file: Path, draw: random.Random) -> Mutation:
    """One number, or text that is one, changed a little."""

    def change(record: Any) -> str:
        numbers = [(c, key) for c, key in _places(record) if _is_number(c[key])]
        if not numbers:
            return "nothing"
        container, key = draw.choice(numbers)
        old = container[key]
        new = float(old) + draw.choice((1, -1, 0.1, -0.001))
        container[key] = str(new) if isinstance(old, str) else new
        return str(key)

    return Mutation(f"number in {_json(file, change, draw)}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _key(file: Path, draw: random.Random) -> Mutation:
    """One key removed, misspelt, or added."""

    def change(record: Any) -> str:
        containers = [(c, key) for c, key in _places(record) if isinstance(c, dict)]
        container, key = draw.choice(containers)
        kind = draw.choice(("removed", "misspelt", "added"))
        if kind == "added":
            container[draw.choice(("acc", "metrics", "x", "\0", ""))] = draw.choice(ODD)
        else:
            value = container.pop(key)
            if kind == "misspelt":
                container[str(key)[:-1]] = value
        return f"{kind} {key}"

    return Mutation(f"key {_json(file, change, draw)}")


def _twice(file: Path, draw: random.Random) -> Mutation:
    """One key of a line stands twice, with an odd value first."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    place = draw.randrange(len(lines))
    key = draw.choice(list(json.loads(lines[place])))
    odd = json.dumps(draw.choice(ODD))
    lines[place] = lines[place].replace("{", "{" + f"{json.dumps(key)}: {odd}, ", 1)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Mutation(f"key {key} twice")


def _swapped(file: Path, draw: random.Random) -> Mutation:
    """Two samples exchange one of their fields."""
    if file.suffix != ".jsonl":
        return _value(file, draw)
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    one, other = draw.sample(records, 2)
    key = draw.choice(list(one))
    if key in other:
        one[key], other[key] = other[key], one[key]
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    # of equal documents nothing in the log tells which answer was whose
    alike = key == "doc_id" and one.get("doc_hash") == other.get("doc_hash")
    return Mutation(f"swapped {key}", plausible=alike)


def _deep(file: Path, draw: random.Random) -> Mutation:
    """Something nested deeper than any parser likes."""
    depth = draw.choice((900, 1100, 5000))
    nested = "[" * depth + "]" * depth
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("{", '{"deep": ' + nested + ", ", 1), encoding="utf-8")
    return Mutation("deep")


def _file(file: Path, draw: random.Random) -> Mutation:
    """The file itself: gone, a folder, a link to nothing or to itself, empty, under another name."""
    kind = draw.choice(("gone", "folder", "link", "loop", "empty", "renamed", "copied", "pointer"))
    content = file.read_bytes()
    if kind == "copied":
        copy = file.with_name(file.name.replace("2026-01", "2026-02"))
        copy.write_bytes(content)
        return Mutation("file copied")
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind in ("link", "loop"):
        file.symlink_to("nowhere" if kind == "link" else file.name)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "renamed":
        file.with_name(draw.choice(("samples_x\ny", "other", "a" * 200)) + file.suffix).write_bytes(
            content
        )
    return Mutation(f"file {kind}")


def _rewritten(file: Path, draw: random.Random) -> Mutation:
    """A plausible rewrite: the whole file's log-likelihoods, or the results' names and settings."""
    if file.suffix != ".jsonl":
        results = json.loads(file.read_text(encoding="utf-8"))
        results["model_name"] = "org/renamed"
        file.write_text(json.dumps(results), encoding="utf-8")
        return Mutation("rewritten names", plausible=True)
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for record in records:
        for answers in (record["filtered_resps"], *record["resps"]):
            for answer in answers:
                if isinstance(answer, list) and answer:
                    answer[0] = repr(float(answer[0]) * 1.0009765625)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return Mutation("rewritten answers", plausible=True)


MUTATORS: tuple[Callable[[Path, random.Random], Mutation], ...] = (
    *(_bytes, _bytes, _bytes, _truncated, _lines, _lines, _wrapped),
    *(_value, _value, _value, _top, _top, _number, _number, _key, _key, _twice, _swapped),
    *(_deep, _file, _rewritten),
)
