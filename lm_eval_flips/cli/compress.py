"""`compress`, `schemes` and `prove`: compressed models of a model, and whether they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import Verb, app
from lm_eval_flips.cli.options import Asked, NoColorOption, OverwriteOption
from lm_eval_flips.cli.output import console, say
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.addresses import refuse_address

if TYPE_CHECKING:
    from lm_eval_flips.compression.compressing import Compressing
    from lm_eval_flips.compression.libraries import Interpreters
    from lm_eval_flips.compression.made import CompressedModel

MODELS = "models"  # where `run` makes compressed models, beside the runs
MakerOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LIBRARY=PYTHON",
        help="The interpreter that makes a library's models, as gptqmodel=env/bin/python.",
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(help="Texts to calibrate with, one a line (.jsonl: field text); else our own."),
]


@app.command(
    cls=Verb,
    epilog="Example: lm-eval-flips compress models/Llama --scheme int8,int4,drop-2 --output models",
)
def compress(
    model: Annotated[
        str, typer.Argument(help="The model, as transformers loads it; a GGUF file for gguf-….")
    ],
    scheme: Annotated[str, typer.Option(help="Schemes, separated by commas.")],
    output: Annotated[Path, typer.Option(help="Folder for the compressed models.")],
    dtype: Annotated[str, typer.Option(help="What to make them in; auto: as the model is.")] = (
        "auto"
    ),
    calibration: CalibrationOption = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    maker: MakerOption = None,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Make compressed models of a model, each proven to be one.

    What was made before is kept. A model that came back from the disk as another one, that changed
    nothing, or that lost its language, is named, and the exit code is 2.
    """
    refuse_address(output, what="--output")
    compressing = compressing_of(
        model, output, dtype=dtype, calibration=calibration, seed=seed, makers=maker
    )
    models = made(compressing, scheme, overwrite=overwrite)
    if broken := [one.folder.name for one in models if one.record.proof.faults]:
        raise FlipsError(f"no compressed models to be judged: {named(broken, shown=20)}")


@app.command(cls=Verb, epilog="Example: lm-eval-flips schemes --maker gptqmodel=gptq/bin/python")
def schemes(
    maker: MakerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
    no_color: NoColorOption = False,
) -> None:
    """List the schemes: what each does, and whether it can be made and loaded on this machine.

    Numbers in a name may be others: int4-g32, drop-6, noise-0.2.
    """
    from lm_eval_flips.report.text.schemes import scheme_json, scheme_lines, scheme_table

    interpreters = interpreters_of(maker)
    if json:
        for line in scheme_json(interpreters).splitlines():
            say(line)
        return
    console().print(scheme_table(interpreters), crop=False)
    for line in scheme_lines(interpreters):
        say(line)


@app.command(cls=Verb, epilog="Example: lm-eval-flips prove models/Llama models/Llama-AWQ")
def prove(
    baseline: Annotated[str, typer.Argument(help="The model that was compressed.")],
    compressed: Annotated[list[Path], typer.Argument(help="Folders of compressed models.")],
    dtype: Annotated[str, typer.Option(help="What to load them in; auto: as each is.")] = "auto",
    no_color: NoColorOption = False,
) -> None:
    """Tell whether models that anyone compressed can be judged: read fixed texts with them.

    One that answers as its baseline, gives no numbers or lost its language is named, and the exit
    code is 2.
    """
    from lm_eval_flips.compression.proving import prove_models
    from lm_eval_flips.compression.source import source_of
    from lm_eval_flips.report.text.schemes import proof_lines

    broken = []
    for folder, proof in prove_models(compressed, source_of(baseline), dtype=dtype):
        for line in proof_lines(folder.name, proof):
            say(line)
        broken += [folder.name] if proof.faults else []
    if broken:
        raise FlipsError(f"no compressed models to be judged: {named(broken, shown=20)}")


def compressing_of(
    model: str,
    output: Path,
    *,
    dtype: str = "auto",
    calibration: Path | None = None,
    seed: int = 0,
    makers: Sequence[str] | None = None,
) -> Compressing:
    """What is to be compressed, by the options of the command line."""
    from lm_eval_flips.compression.calibration import calibration_texts
    from lm_eval_flips.compression.compressing import Compressing
    from lm_eval_flips.compression.source import source_of

    return Compressing(
        source=source_of(model),
        output=output,
        interpreters=interpreters_of(makers),
        texts=calibration_texts(calibration, seed=seed),
        seed=seed,
        dtype=dtype,
    )


def made(compressing: Compressing, names: str, *, overwrite: bool = False) -> list[CompressedModel]:
    """Make the models of those schemes, saying what is done.

    Raises:
        FlipsError: a scheme that is none, or one or more could not be made; after all others were.
    """
    from lm_eval_flips.compression.made import Failure
    from lm_eval_flips.compression.naming import schemes as asked
    from lm_eval_flips.report.text.schemes import model_lines

    models, failures = [], []
    for one in compressing.make(asked(names), overwrite=overwrite):
        if isinstance(one, Failure):
            failures.append(f"{one.scheme}: {one.reason}")
            say(f"✗ {failures[-1]}")
            continue
        models.append(one)
        for line in model_lines(one):
            say(line)
    if failures:
        raise FlipsError(f"{len(failures)} could not be made: {'; '.join(failures)}")
    return models


def models_of_schemes(
    names: str,
    baseline: str,
    output_path: Path,
    *,
    makers: Sequence[str] | None,
    asked: Asked,
) -> list[str]:
    """The model arguments of the schemes' models, which are made where they are not there.

    Raises:
        FlipsError: one could not be made, or is none to be judged.
    """
    from lm_eval_flips.evaluation.flags import argument, pretrained, with_model
    from lm_eval_flips.evaluation.state import baseline_arguments

    arguments = baseline_arguments(baseline)
    compressing = compressing_of(
        pretrained(arguments),
        output_path / MODELS,
        dtype=argument(arguments, "dtype") or "auto",
        makers=makers,
    )
    models = made(compressing, names)
    broken = [one.folder.name for one in models if one.record.proof.faults]
    if broken and not asked.allow_implausible:
        raise FlipsError(
            f"no compressed models to be judged: {named(broken, shown=20)}; leave them out, or "
            "judge them all the same with --allow-implausible"
        )
    return [with_model(arguments, str(one.model), dtype=one.record.dtype) for one in models]


def interpreters_of(makers: Sequence[str] | None) -> Interpreters:
    """The interpreters that --maker names.

    Raises:
        FlipsError: one is not LIBRARY=PYTHON.
    """
    from lm_eval_flips.compression.libraries import Interpreters

    for given in makers or ():
        if "=" not in given:
            raise FlipsError(f"--maker {given} is not LIBRARY=PYTHON, as gptqmodel=env/bin/python")
    return Interpreters.of(dict(given.split("=", 1) for given in makers or ()))
