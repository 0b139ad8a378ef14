"""The harness's flags as the user gave them: which are refused, and a model's arguments in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from lm_eval_flips.errors import FlipsError

# Both models' answers in one cache would be the first one's.
REFUSED = {
    "--use_cache": "a response cache does not tell models apart; finished requests are kept anyway",
    "--model_args": "each model's arguments go to --baseline or --compressed",
    "--config": "give the settings as flags, so that they can be compared",
    "-M": "give it as --model",
    "-t": "give it as --tasks",
    "-o": "give it as --output_path",
}
SHORT = {"-c": "--use_cache", "-a": "--model_args", "-C": "--config"}
MODEL_NAMES = ("pretrained", "gguf", "path", "model")
MODEL_NAME = re.compile(rf"(?:^|,)(?:{'|'.join(MODEL_NAMES)})=([^,]*)")


def flags_of(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each flag with the values that follow it.

    Example:
        >>> flags_of(["--limit=8", "--metadata", "a=1", "b=2"])
        [('--limit', ['8']), ('--metadata', ['a=1', 'b=2'])]
    """
    flags: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if re.match("--?[a-zA-Z]", argument):
            flag, _, value = argument.partition("=")
            flags.append((flag, [value] if value else []))
        elif flags:
            flags[-1][1].append(argument)
        else:
            flags.append((argument, []))
    return flags


def refuse_flags(arguments: Sequence[str]) -> None:
    """Refuse what would undo the schedule.

    Raises:
        FlipsError: a flag of the harness that does not go together with this command.
    """
    for argument in arguments:
        flag = argument.split("=")[0] if argument.startswith("--") else argument[:2]
        if (why := REFUSED.get(SHORT.get(flag, flag))) is not None:
            raise FlipsError(f"{flag} cannot be used here: {why}")


def refuse_no_arguments(models: Sequence[str]) -> None:
    """Refuse what cannot be model arguments, such as a mistyped folder.

    Raises:
        FlipsError: one of them is none.
    """
    for given in models:
        if "=" not in given and not given.lstrip().startswith("{"):
            raise FlipsError(
                f"'{given}' is neither the folder of a baseline nor model arguments, such as "
                "pretrained=NAME"
            )


def with_arguments(model_args: str, extra: dict[str, Any]) -> str:
    """Model arguments with some more, in the form in which they were given.

    Example:
        >>> with_arguments("pretrained=gpt2", {"record": "runs/baseline"})
        'pretrained=gpt2,record=runs/baseline'
        >>> with_arguments('{"pretrained": "gpt2"}', {"record": "runs/baseline"})
        '{"pretrained": "gpt2", "record": "runs/baseline"}'

    Raises:
        FlipsError: they begin as JSON and are none.
    """
    if model_args.lstrip().startswith("{"):
        return json.dumps({**_decoded(model_args), **extra})
    return ",".join([model_args, *(f"{name}={value}" for name, value in extra.items())])


def with_model(model_args: str, pretrained: str, *, dtype: str | None = None) -> str:
    """The same arguments for another model.

    Args:
        model_args: of a model, or of a GGUF file.
        pretrained: the other one.
        dtype: to load it in; None for the same.

    Example:
        >>> with_model("pretrained=gpt2,dtype=float16", "models/int4")
        'pretrained=models/int4,dtype=float16'
        >>> with_model("gguf=model-F16.gguf", "models/model-Q8_0.gguf")
        'gguf=models/model-Q8_0.gguf'

    Raises:
        FlipsError: they name no model, or begin as JSON and are none.
    """
    as_json = model_args.lstrip().startswith("{")
    given = (
        _decoded(model_args)
        if as_json
        else dict(pair.partition("=")[::2] for pair in model_args.split(",") if pair)
    )
    name = "gguf" if "gguf" in given else "pretrained"
    changed = {name: pretrained, **({} if dtype is None else {"dtype": dtype})}
    if as_json:
        return json.dumps({**given, **changed})
    if name not in given:
        raise FlipsError(f"'{model_args}' names no pretrained=MODEL, of which one could be made")
    return ",".join(f"{name}={value}" for name, value in {**given, **changed}.items())


def argument(model_args: str, name: str) -> str | None:
    """One of a model's arguments; None if it is not given.

    Example:
        >>> argument("pretrained=gpt2,dtype=float16", "dtype")
        'float16'

    Raises:
        FlipsError: they begin as JSON and are none.
    """
    if model_args.lstrip().startswith("{"):
        value = _decoded(model_args).get(name)
        return None if value is None else str(value)
    given = dict(pair.partition("=")[::2] for pair in model_args.split(",") if pair)
    return given.get(name)


def pretrained(model_args: str) -> str:
    """The model that is named by model arguments, of whatever backend; "" if none is.

    Example:
        >>> pretrained("dtype=float16,pretrained=models/int4")
        'models/int4'

    Raises:
        FlipsError: they begin as JSON and are none.
    """
    if model_args.lstrip().startswith("{"):
        decoded = _decoded(model_args)
        return str(next((decoded[name] for name in MODEL_NAMES if name in decoded), ""))
    match = MODEL_NAME.search(model_args)
    return match[1] if match else ""


def _decoded(model_args: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(model_args, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise FlipsError(f"the model arguments {model_args} are not JSON: {error}") from None
