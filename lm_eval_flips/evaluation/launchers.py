"""What starts one evaluation as several processes: accelerate's launcher, or torchrun."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from lm_eval_flips.errors import FlipsError

MODULES = {"accelerate": "accelerate.commands.launch", "torchrun": "torch.distributed.run"}
PACKAGES = {"accelerate": "accelerate", "torchrun": "torch"}
# torchrun's own: with none of them it listens on a fixed port, which another one may hold
MEETING = ("--standalone", "--rdzv", "--master", "--nnodes", "--node-rank", "--node_rank")
# what a launcher tells its processes; in a process that is to start others it would mislead them
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
TOLD = ("MASTER_", "ROLE_", "TORCHELASTIC_", "ACCELERATE_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """A launcher with its own arguments.

    Example:
        >>> Launcher.of("torchrun:--nproc-per-node 2").module
        'torch.distributed.run'
    """

    name: str
    arguments: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str) -> Launcher:
        """The launcher that ``NAME`` or ``NAME:ARGUMENTS`` names.

        Raises:
            FlipsError: there is none of this name, it is not installed, or its arguments are no
                arguments.
        """
        name, _, words = given.partition(":")
        if name not in MODULES:
            known = " or ".join(MODULES)
            raise FlipsError(f"--launcher {given}: '{name}' is no launcher; give {known}")
        if find_spec(PACKAGES[name]) is None:
            raise FlipsError(f"--launcher {name} is not installed: pip install {PACKAGES[name]}")
        try:
            arguments = tuple(shlex.split(words))
        except ValueError as error:
            raise FlipsError(f"--launcher {given}: {error} in its arguments") from None
        if arguments and not arguments[0].startswith("-"):
            raise FlipsError(
                f"--launcher {given}: '{arguments[0]}' is no flag; give its flags behind the "
                f"colon, such as torchrun:'--nproc-per-node 2'"
            )
        return cls(name=name, arguments=arguments)

    @property
    def module(self) -> str:
        """The module that Python runs for it."""
        return MODULES[self.name]

    def command(self, module: str, arguments: list[str]) -> list[str]:
        """Python's command that has a module run by this launcher's processes.

        Each of them ends when the launcher is gone, however that ended.
        """
        own = list(self.arguments)
        if self.name == "torchrun" and not any(flag.startswith(MEETING) for flag in own):
            own = ["--standalone", *own]
        watched = ["-m", "lm_eval_flips.evaluation.watched", "parent", module]
        return [sys.executable, "-m", self.module, *own, *watched, *arguments]


def from_environment(environment: Mapping[str, str] = os.environ) -> Launcher | None:
    """The launcher for evaluations of a command that was itself started as several processes.

    None where it was not. As many processes are started as there are of this command here.

    Example:
        >>> from_environment({"RANK": "0", "WORLD_SIZE": "2"}).arguments
        ('--nproc-per-node', '2')
        >>> from_environment({}) is None
        True

    Raises:
        FlipsError: it runs on several machines.
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        return None
    if int(environment.get("LOCAL_WORLD_SIZE", size)) != size:
        raise FlipsError(
            "run was started on several machines, and only one process can order the "
            "evaluations; start it once, with --launcher and that launcher's flags for machines"
        )
    return Launcher(name="torchrun", arguments=("--nproc-per-node", str(size)))


def waits(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several, and another one orders the evaluations.

    Example:
        >>> waits({"RANK": "1", "WORLD_SIZE": "2"}), waits({})
        (True, False)
    """
    return int(environment.get("RANK", "0")) > 0


def without_ranks(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what a launcher told this process of its ranks.

    Example:
        >>> without_ranks({"RANK": "0", "MASTER_PORT": "29500", "HOME": "/home/me"})
        {'HOME': '/home/me'}
    """
    return {
        name: value
        for name, value in environment.items()
        if name not in RANKS and not name.startswith(TOLD)
    }
