"""Launchers: what they are given, and what their processes are told."""

from __future__ import annotations

import sys

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.evaluation.launchers import Launcher, from_environment, waits, without_ranks

OWN = [
    "-m",
    "lm_eval_flips.evaluation.watched",
    "parent",
    "lm_eval_flips",
    "eval",
    "--tasks",
    "a b",
]


def test_torchrun_finds_a_free_port_unless_it_is_told_where_to_meet() -> None:
    """Two runs on one machine must not meet at the same port."""
    launched = Launcher.of("torchrun:--nproc-per-node 2").command("lm_eval_flips", OWN[4:])
    started = [sys.executable, "-m", "torch.distributed.run"]
    assert launched == [*started, "--standalone", "--nproc-per-node", "2", *OWN]
    told = "torchrun:--nnodes 2 --rdzv-endpoint 'a host:1'"
    launched = Launcher.of(told).command("lm_eval_flips", OWN[4:])
    assert launched == [*started, "--nnodes", "2", "--rdzv-endpoint", "a host:1", *OWN]


def test_accelerate_has_its_own_flags() -> None:
    """Nothing is added to them."""
    launched = Launcher.of("accelerate:--cpu --num_processes=1").command("lm_eval_flips", OWN[4:])
    flags = ["--cpu", "--num_processes=1"]
    assert launched == [sys.executable, "-m", "accelerate.commands.launch", *flags, *OWN]
    assert Launcher.of("accelerate").arguments == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mpirun", "'mpirun' is no launcher; give accelerate or torchrun"),
        ("torchrun:2", "'2' is no flag; give its flags behind the colon"),
        ("torchrun:--rdzv-id '", "No closing quotation in its arguments"),
    ],
)
def test_what_is_no_launcher_is_refused(given: str, message: str) -> None:
    """With what would be one."""
    with pytest.raises(FlipsError, match=message):
        Launcher.of(given)


def test_one_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(FlipsError, match="accelerate is not installed: pip install accelerate"):
        Launcher.of("accelerate")


def test_of_several_processes_the_first_one_orders() -> None:
    """It starts as many as there are of it, which are told nothing of the outer ones."""
    told = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "1", "A": "b"}
    assert not waits(told)
    assert waits({**told, "RANK": "3"})
    launcher = from_environment(told)
    assert launcher is not None
    assert launcher.arguments == ("--nproc-per-node", "4")
    assert without_ranks({**told, "TORCHELASTIC_RUN_ID": "1"}) == {"A": "b"}
    with pytest.raises(FlipsError, match="on several machines"):
        from_environment({**told, "LOCAL_WORLD_SIZE": "2"})
