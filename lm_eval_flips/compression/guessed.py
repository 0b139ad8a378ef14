"""A guess of how a run's model was compressed, from its model arguments and its names.

What the arguments say counts before what a name says. Where nothing tells, or where two things
contradict each other, the scheme is "unknown": a wrong one would mislead, a missing one does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lm_eval_flips.compression import families
from lm_eval_flips.logs.names import last_name

UNKNOWN = "unknown"

# Names of methods, as they stand in names and in `quantization=`; and what they are called here.
METHODS = {
    "aqlm": "aqlm",
    "awq": "awq",
    "bitsandbytes": "bitsandbytes",
    "bnb": "bitsandbytes",
    "exl2": "exl2",
    "exl3": "exl3",
    "gguf": "gguf",
    "gptq": "gptq",
    "hqq": "hqq",
    "pruned": "pruned",
    "quarot": "quarot",
    "quip": "quip",
    "smoothquant": "smoothquant",
    "sparsegpt": "sparsegpt",
    "spinquant": "spinquant",
    "wanda": "wanda",
}
KERNELS = ("_marlin", "-marlin", "_gemm", "_gemv")  # how a method is computed, not what it is
FORMATS = re.compile(
    r"""(?x)
    (?P<gguf> i?q[1-8]_(?:[01]|k(?:_(?:xs|s|m|l|xl))?|xxs|xs|s|m|nl) )
    | (?P<plain> int[2-8] | nf4 | fp4 | fp8 | mxfp[468] | nvfp4 | w\d{1,2}a\d{1,2} )
    | (?P<bits> (?<![\d.])[2-8] ) [-_]? bits?
    """
)
WEIGHT_BITS = re.compile(
    r"""(?x)
    (?: ^ | \s )
    (?: w(\d+)a\d+ | (?:int|mxfp|nvfp|fp|nf)(\d) | i?q(\d)_\w+ | (\d)-bit | [a-z]?f(16|32) )
    $
    """
)
FAMILY = {
    "awq": families.AWQ,
    "bitsandbytes": families.BITSANDBYTES,
    "gguf": families.GGUF,
    "gptq": families.GPTQ,
    "pruned": families.PRUNED,
    "smoothquant": families.SMOOTHQUANT,
    "sparsegpt": families.PRUNED,
    "wanda": families.PRUNED,
    "nf4": families.BITSANDBYTES,  # whose type it is
}
APART = re.compile(r"[^a-z0-9_.]+|(?<![a-z0-9])_|_(?![a-z0-9])")


def scheme_of(model: str, folder: str, model_args: Mapping[str, Any]) -> str:
    """How a model was compressed: a method, a format, both, or "unknown".

    Args:
        model: the model's name, as the harness logged it.
        folder: the name of the run's folder.
        model_args: the model's arguments.

    Example:
        >>> scheme_of("org/Llama-3-8B-GPTQ-Int4", "runs", {})
        'gptq int4'
        >>> scheme_of("org/Llama-3-8B", "run-7", {"load_in_8bit": True})
        'bitsandbytes int8'
        >>> scheme_of("org/Llama-3-8B", "run-7", {})
        'unknown'
    """
    told = _of_arguments(model_args)
    if told is not None:
        return told
    labels = (_of_name(last_name(model)), _of_name(folder))
    return _agreed([label for label in labels if label is not None])


def family_of(label: str) -> str:
    """The family of what ``scheme_of`` says; "" where a format alone is told.

    Example:
        >>> family_of("gptq int4"), family_of("hqq 4-bit"), family_of("int8")
        ('GPTQ', 'hqq', '')
    """
    word = label.split()[0]
    return FAMILY.get(word, word if word in METHODS.values() else "")


def bits_of(label: str) -> float | None:
    """The bits of a weight in what ``scheme_of`` says; None where it does not tell.

    Example:
        >>> bits_of("gguf q4_k_m"), bits_of("gptq w3a16"), bits_of("awq")
        (4.0, 3.0, None)
    """
    match = WEIGHT_BITS.search(label)
    return None if match is None else float(next(filter(None, match.groups())))


def _agreed(given: Iterable[str]) -> str:
    """The label that says most, if the others say nothing else."""
    labels = sorted(set(given), key=len)
    if not labels:
        return UNKNOWN
    most = set(labels[-1].split())
    agree = all(set(label.split()) <= most for label in labels)
    return labels[-1] if agree else UNKNOWN


def _of_arguments(arguments: Mapping[str, Any]) -> str | None:
    """What the model was loaded with; None if nothing is said."""
    labels = []
    if _given(arguments.get("load_in_4bit")):
        kind = str(arguments.get("bnb_4bit_quant_type") or "fp4").lower()  # transformers' default
        labels.append(f"bitsandbytes {kind}")
    if _given(arguments.get("load_in_8bit")):
        labels.append("bitsandbytes int8")
    if _given(arguments.get("autogptq")) or _given(arguments.get("gptqmodel")):
        labels.append("gptq")
    if file := arguments.get("gguf_file") or arguments.get("gguf"):
        labels.append(_of_name(f"{file}-gguf") or "gguf")
    if method := arguments.get("quantization"):
        labels.append(_method(str(method)))
    config = arguments.get("quantization_config")
    if isinstance(config, Mapping) and (method := config.get("quant_method")):
        bits = config.get("bits") or config.get("w_bit")
        labels.append(" ".join([_method(str(method)), *([f"{bits}-bit"] if bits else [])]))
    return _agreed(labels) if labels else None


def _given(value: Any) -> bool:
    return str(value).lower() not in ("", "none", "false", "0")


def _method(name: str) -> str:
    plain = name.lower()
    for kernel in KERNELS:
        plain = plain.removesuffix(kernel)
    return METHODS.get(plain, plain)


def _of_name(name: str) -> str | None:
    """What a name tells; None if nothing, "unknown" if it contradicts itself."""
    words = [word.strip("_.") for word in APART.split(name.lower())]
    parts = [part for word in words for part in (word, *re.split(r"[_.]", word))]
    methods = {METHODS[part] for part in parts if part in METHODS}
    formats = _formats(name.lower())
    if any(label.startswith(("q", "iq")) for label in formats):
        methods.add("gguf")
    if len(methods) > 1:
        methods.discard("pruned")  # a method of pruning says more
    if not methods and not formats:
        return None
    if len(methods) > 1 or len(formats) > 1:
        return UNKNOWN
    return " ".join([*methods, *formats])


def _formats(name: str) -> set[str]:
    formats = set()
    for match in FORMATS.finditer(name):
        before, after = name[: match.start()][-1:], name[match.end() :][:1]
        if before.isalnum() or after.isalnum():
            continue  # within a word
        formats.add(f"{match['bits']}-bit" if match["bits"] else match[0])
    return formats
