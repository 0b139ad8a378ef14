"""What a GGUF file says of itself, by the format's own library; and where two files differ."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.files import parts_of

UNUSED = 5  # the format's number of an entry that only fills the vocabulary up
SPECIAL = ("bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token", "add_eos_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A model's file: what it holds and how it splits text.

    ``bits_per_weight`` counts all bytes of tensors; ``kinds`` the weights of each type.
    ``tokens`` is a hash of the vocabulary without the entries that fill it up.
    """

    path: Path
    architecture: str
    layers: int | None
    file_type: str
    bytes: int
    weights: int
    bits_per_weight: float
    kinds: dict[str, int]
    tokens: str
    pre: str
    special: dict[str, Any]
    chat_template: str

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Read them.

        Args:
            path: the file, or the first part of a split one, which has been found to be GGUF.

        Raises:
            FlipsError: it cannot be read, or holds a vocabulary alone.
        """
        from gguf import LlamaFileType

        readers = [_reader(part) for part in parts_of(path)]
        fields = {key: field for reader in readers[::-1] for key, field in reader.fields.items()}
        tensors = [tensor for reader in readers for tensor in reader.tensors]
        if not tensors:
            raise FlipsError(f"'{path}' holds a vocabulary alone, and no model")

        def value(key: str, default: Any = None) -> Any:
            return fields[key].contents() if key in fields else default

        architecture = str(value("general.architecture", ""))
        kinds: Counter[str] = Counter()
        for tensor in tensors:
            kinds[tensor.tensor_type.name] += int(tensor.n_elements)
        weights = sum(kinds.values())
        number = value("general.file_type")
        known = {int(kind): kind.name for kind in LlamaFileType}
        name = known.get(number, "").removeprefix("MOSTLY_").removeprefix("ALL_")
        return cls(
            path=path,
            architecture=architecture,
            layers=value(f"{architecture}.block_count"),
            file_type=name,
            bytes=sum(part.stat().st_size for part in parts_of(path)),
            weights=weights,
            bits_per_weight=8 * sum(int(tensor.n_bytes) for tensor in tensors) / weights,
            kinds=dict(kinds),
            tokens=_hashed(value("tokenizer.ggml.tokens", []), value("tokenizer.ggml.token_type")),
            pre=str(value("tokenizer.ggml.pre", "")),
            special={name: value(f"tokenizer.ggml.{name}") for name in SPECIAL},
            chat_template=str(value("tokenizer.chat_template", "")),
        )


def differences(baseline: FileFacts, other: FileFacts) -> Iterator[str]:
    """What two files differ in besides the weights, a sentence each.

    Raises:
        FlipsError: their vocabularies are not the same.
    """
    pair = f"'{other.path}' and the baseline '{baseline.path}'"
    if other.tokens != baseline.tokens:
        raise FlipsError(f"{pair} have other vocabularies: they are not of one model")
    if (other.architecture, other.layers) != (baseline.architecture, baseline.layers):
        yield (
            f"{pair} are of {other.architecture} with {other.layers} layers and of "
            f"{baseline.architecture} with {baseline.layers}"
        )
    if other.pre != baseline.pre:
        yield (
            f"{pair} split text otherwise (tokenizer.ggml.pre is {other.pre or 'not given'} and "
            f"{baseline.pre or 'not given'}): their prompts are not the same tokens"
        )
    changed = [name for name in SPECIAL if other.special[name] != baseline.special[name]]
    if changed:
        told = ", ".join(
            f"{name} {other.special[name]} and {baseline.special[name]}" for name in changed
        )
        yield f"{pair} have other special tokens: {told}"
    if other.chat_template != baseline.chat_template:
        yield f"{pair} have other chat templates: with --apply_chat_template prompts differ"


def _reader(part: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(part)
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{part}' is cut off or damaged: {error}") from None


def _hashed(tokens: list[str], kinds: list[int] | None) -> str:
    used = [
        f"{index}\0{token}"
        for index, token in enumerate(tokens)
        if kinds is None or kinds[index] != UNUSED
    ]
    return hashlib.sha256("\1".join(used).encode("utf-8", "replace")).hexdigest()
