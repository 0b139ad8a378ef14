"""The libraries that make compressed models: what each needs, and whether an interpreter has it.

Makers do not agree on one environment. Each may have an interpreter of its own, named by
``--maker LIBRARY=PYTHON`` or by an environment variable.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lm_eval_flips.errors import FlipsError

WAIT = 60  # seconds for an interpreter to say what it has
ASK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What makes or loads compressed models.

    ``packages`` make one, or the last of them can be done without where ``program`` is on PATH;
    ``loading`` load what was made; ``install`` says how to get them.
    """

    name: str
    packages: tuple[str, ...] = ()
    program: str = ""
    loading: tuple[str, ...] = ()
    install: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that names its interpreter."""
        return f"LM_EVAL_FLIPS_{re.sub('[-.]', '_', self.name.upper())}_PYTHON"


OWN = Library(name="lm-eval-flips")
TORCHAO = Library(
    name="torchao",
    packages=("torchao",),
    loading=("torchao",),
    install="pip install 'lm-eval-flips[torchao]'",
)
BITSANDBYTES = Library(
    name="bitsandbytes",
    packages=("bitsandbytes", "accelerate"),
    loading=("bitsandbytes", "accelerate"),
    install="pip install 'lm-eval-flips[bitsandbytes]'",
)
GPTQMODEL = Library(
    name="gptqmodel",
    packages=("gptqmodel",),
    loading=("gptqmodel", "optimum"),
    install="an environment with gptqmodel and optimum",
)
LLMCOMPRESSOR = Library(
    name="llmcompressor",
    packages=("llmcompressor",),
    loading=("compressed-tensors",),
    install="an environment with llmcompressor",
)
GGUF = Library(
    name="gguf",
    packages=("gguf",),
    loading=("gguf",),
    install="pip install 'lm-eval-flips[gguf]'",
)
LLAMA_CPP = Library(
    name="llama.cpp",
    packages=("gguf", "llama-cpp-python"),
    program="llama-quantize",
    loading=("gguf",),
    install="llama-quantize on PATH, or an environment with gguf and llama-cpp-python",
)
LIBRARIES = (OWN, TORCHAO, BITSANDBYTES, GPTQMODEL, LLMCOMPRESSOR, GGUF, LLAMA_CPP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreters:
    """Which Python makes the models of each library: this one, where none is named.

    ``named`` are paths by library.
    """

    named: Mapping[str, str]

    @classmethod
    def of(cls, makers: Mapping[str, str]) -> Interpreters:
        """Those that are given, then those of the environment.

        Raises:
            FlipsError: a library that is none, or an interpreter that is not there.
        """
        known = {library.name: library for library in LIBRARIES}
        for name in makers:
            if name not in known:
                raise FlipsError(f"'{name}' makes no models here; there are {', '.join(known)}")
        asked = {name: os.environ.get(library.variable, "") for name, library in known.items()}
        named = {name: path for name, path in {**asked, **makers}.items() if path}
        for name, path in named.items():
            if not os.access(path, os.X_OK) or Path(path).is_dir():
                raise FlipsError(f"the interpreter '{path}' for {name} cannot be run")
        return cls(named=named)

    def of_library(self, library: Library) -> str:
        """The interpreter that makes the models of a library."""
        return self.named.get(library.name, sys.executable)

    def missing(self, library: Library) -> tuple[str, ...]:
        """Packages that its interpreter lacks to make a model."""
        have = versions(self.of_library(library), library.packages)
        needed = library.packages
        if library.program and shutil.which(library.program):
            needed = needed[:-1]
        return tuple(name for name in needed if name not in have)


def missing_to_load(library: Library) -> tuple[str, ...]:
    """Packages that this interpreter lacks to load what a library made."""
    have = versions(sys.executable, library.loading)
    return tuple(name for name in library.loading if name not in have)


@lru_cache
def versions(interpreter: str, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages that an interpreter has; none of them is imported.

    Raises:
        FlipsError: the interpreter does not answer.
    """
    if not packages:
        return {}
    try:
        done = subprocess.run(  # noqa: S603  (our own question)
            [interpreter, "-c", ASK, *packages], capture_output=True, timeout=WAIT, check=True
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise FlipsError(f"'{interpreter}' does not say what it has: {error}") from None
    return found
