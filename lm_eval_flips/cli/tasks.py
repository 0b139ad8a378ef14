"""`tasks`: the folder of flip tasks, and new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.options import OverwriteOption
from lm_eval_flips.cli.output import Outputs, say
from lm_eval_flips.logs.output_files import write_whole

tasks_app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Print the folder of flip tasks, for lm_eval's --include_path.",
    epilog='Example: lm_eval run --include_path "$(lm-eval-flips tasks)" '
    "--tasks flips_mmlu --metadata baseline=runs/baseline ...",
)
app.add_typer(tasks_app, name="tasks")


@tasks_app.callback()
def tasks(context: typer.Context) -> None:
    """Print the folder of flip tasks, for lm_eval's --include_path."""
    if context.invoked_subcommand is None:
        from lm_eval_flips.harness.task_folder import task_folder

        say(str(task_folder()))


@tasks_app.command(epilog="Example: lm-eval-flips tasks make boolq 'blimp_*' --output my_tasks")
def make(
    names: Annotated[
        list[str], typer.Argument(help="Tasks, groups, tags or globs of the catalogue.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the YAML files.")],
    include_path: Annotated[
        Path | None,
        typer.Option(
            "--include_path", "--include-path", help="Further task YAMLs, as for lm_eval."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a flips_NAME group for any task, group, tag or glob of the catalogue."""
    from lm_eval_flips.harness.catalogue import group_files

    contents = {
        output / f"{name}.yaml": content
        for name, content in group_files(names, include_path=include_path).items()
    }
    Outputs({file.name: file for file in contents}, overwrite=overwrite)
    for file, content in contents.items():
        write_whole(file, content.encode())
        say(str(file))
