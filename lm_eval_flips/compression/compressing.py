"""A model and schemes -> compressed models on disk, each made, proven and then moved into place."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from pathlib import Path

from lm_eval_flips.compression import families
from lm_eval_flips.compression.calibration import Texts
from lm_eval_flips.compression.libraries import Interpreters, missing_to_load, versions
from lm_eval_flips.compression.made import CompressedModel, Failure
from lm_eval_flips.compression.maker import Step
from lm_eval_flips.compression.process import done
from lm_eval_flips.compression.proof import prove, weights_of
from lm_eval_flips.compression.proving import reading_of
from lm_eval_flips.compression.reading import Reading
from lm_eval_flips.compression.recipe import Scheme
from lm_eval_flips.compression.record import Record, read_record
from lm_eval_flips.compression.source import CONVERTER, Source, refuse_full_disk, weight_files
from lm_eval_flips.compression.unfinished import sweep, unfinished
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD


@dataclass(frozen=True, kw_only=True)
class Compressing:
    """Compressed models of one source, to be made under a folder.

    Args:
        source: the model.
        output: folder for the compressed ones, each in a folder of its own.
        interpreters: which Python makes those of each library.
        texts: to calibrate with.
        seed: of all that is drawn.
        dtype: to make them in; "auto" for the source's own.
    """

    source: Source
    output: Path
    interpreters: Interpreters
    texts: Texts
    seed: int = 0
    dtype: str = "auto"
    _baselines: dict[str, Reading] = field(default_factory=dict, init=False)

    def folder_of(self, scheme: Scheme) -> Path:
        """Where a scheme's model belongs."""
        return self.output / f"{self.source.name}-{scheme.file_name}"

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return self.source.hashes()

    def make(
        self, schemes: Sequence[Scheme], *, overwrite: bool = False
    ) -> Iterator[CompressedModel | Failure]:
        """Make what is not there, one after the other; what fails does not end the others.

        Raises:
            FlipsError: before anything is made: a library is missing, a folder holds something
                else, or the disk is too full.
        """
        self._refuse_missing(schemes)
        kept = {scheme.name: self._kept(scheme, overwrite=overwrite) for scheme in schemes}
        dtypes = [self._dtype(scheme) for scheme in schemes if kept[scheme.name] is None]
        refuse_full_disk(self.source, self.output, dtypes=dtypes)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FlipsError(
                f"'{self.output}' is no folder to write into: {error.strerror}"
            ) from None
        sweep(self.output)
        for scheme in schemes:
            before = kept[scheme.name]
            try:
                yield before or self._make(scheme)
            except FlipsError as error:
                yield Failure(scheme=scheme.name, reason=str(error))

    def _refuse_missing(self, schemes: Sequence[Scheme]) -> None:
        lacking = []
        for scheme in schemes:
            self._refuse_other_source(scheme)
            library = scheme.recipe.library
            if missing := self.interpreters.missing(library):
                lacking.append(
                    f"{scheme.name} needs {', '.join(missing)}: {library.install}, named by "
                    f"--maker {library.name}=PYTHON or {library.variable}"
                )
        if lacking:
            raise FlipsError("; ".join(dict.fromkeys(lacking)))

    def _refuse_other_source(self, scheme: Scheme) -> None:
        of_file = scheme.recipe.family == families.GGUF
        if of_file and not self.source.is_gguf:
            raise FlipsError(
                f"{scheme.name} is made of a GGUF file of 16 or 32 bits, and '{self.source.place}' "
                f"is none; {CONVERTER}"
            )
        if self.source.is_gguf and not of_file:
            raise FlipsError(
                f"{scheme.name} is made of a model that transformers loads; of the GGUF file "
                f"'{self.source.place}' there are gguf-q8_0, gguf-q4_k_m and others"
            )

    def _kept(self, scheme: Scheme, *, overwrite: bool) -> CompressedModel | None:
        """The model that is there already, if it is this one."""
        folder = self.folder_of(scheme)
        if not folder.exists():
            return None
        record = read_record(folder)
        if record is None:
            raise FlipsError(
                f"'{folder}' holds something else, without {RECORD}; choose another --output"
            )
        if (differing := self._difference(record, scheme)) is not None:
            if overwrite:
                return None
            raise FlipsError(
                f"'{folder}' was made {differing}; choose another --output, or replace it with "
                "--overwrite"
            )
        return CompressedModel(
            folder=folder, record=record, kept=True, note=self._aged(record, scheme)
        )

    def _difference(self, record: Record, scheme: Scheme) -> str | None:
        """In what a model was made otherwise, in words; None if it is the same."""
        if record.scheme != scheme.name:
            return f"by {record.scheme}"
        if record.source_sha256 != self._hashes:
            return f"of other files than those of '{self.source.place}'"
        if record.seed != self.seed:
            return f"with seed {record.seed}, now {self.seed}"
        if scheme.recipe.calibrated and record.calibration != self.texts.identity:
            return "with other calibration texts"
        if record.asked_dtype != self.dtype:
            return f"in {record.asked_dtype}, now {self.dtype}"
        return None

    def _aged(self, record: Record, scheme: Scheme) -> str | None:
        """What another version of a library made, which is kept but said."""
        library = scheme.recipe.library
        now = versions(self.interpreters.of_library(library), library.packages)
        other = [
            f"{name} {record.versions[name]}, here is {version}"
            for name, version in now.items()
            if record.versions.get(name, version) != version
        ]
        return f"made by {'; '.join(other)}: --overwrite makes it anew" if other else None

    def _make(self, scheme: Scheme) -> CompressedModel:
        folder = self.folder_of(scheme)
        scratch = unfinished(self.output, folder.name)
        try:
            scratch.mkdir()
            record = self._made(scheme, scratch=scratch, made=scratch / "model")
            record.write(scratch / "model")
            if folder.exists():
                shutil.rmtree(folder)  # --overwrite
            (scratch / "model").rename(folder)
        except OSError as error:
            raise FlipsError(f"'{folder}' cannot be written: {error.strerror or error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return CompressedModel(folder=folder, record=record, kept=False)

    def _made(self, scheme: Scheme, *, scratch: Path, made: Path) -> Record:
        recipe, library = scheme.recipe, scheme.recipe.library
        maker, dtype = self.interpreters.of_library(library), self._dtype(scheme)
        reader = maker if missing_to_load(library) else sys.executable
        memory = scratch / "memory.safetensors"
        step = Step(
            source=str(self.source.place),
            dtype=dtype,
            reading=str(memory),
            name=scheme.name,
            make=recipe.make,
            parameters=dict(scheme.parameters),
            seed=self.seed,
            texts=list(self.texts.texts) if recipe.calibrated else [],
            folder=str(made),
            reloaded=str(scratch / "loaded.safetensors") if reader == maker else "",
            packages=list(library.packages),
        )
        told = done(
            *(maker, step),
            name=scheme.file_name,
            scratch=scratch,
            kept_log=self.output / f"{self.folder_of(scheme).name}.log",
        )
        if reader == maker:
            loaded = Reading.load(scratch / "loaded.safetensors")
        else:
            loaded = reading_of(
                made, dtype=dtype, scratch=scratch, name="reloaded", interpreter=reader
            )
        proof = prove(
            baseline=self._baseline(dtype),
            memory=Reading.load(memory) if memory.exists() else None,  # of a file, there is none
            loaded=loaded,
            weights=weights_of(weight_files(made)),
            baseline_weights=weights_of(self.source.weight_files),
            packed=recipe.packed,
        )
        return Record(
            scheme=scheme.name,
            family=recipe.family,
            does=scheme.does,
            bits=None if isnan(scheme.bits) else scheme.bits,
            library=library.name,
            versions=told["versions"],
            source=str(self.source.place),
            source_sha256=self._hashes,
            asked_dtype=self.dtype,
            dtype=recipe.dtype,
            seed=self.seed,
            calibration=self.texts.identity if recipe.calibrated else None,
            seconds=round(told["seconds"], 1),
            proof=proof,
        )

    def _dtype(self, scheme: Scheme) -> str:
        """What a scheme's model is made in."""
        return scheme.recipe.dtype or self.dtype

    def _baseline(self, dtype: str) -> Reading:
        """What the source makes of the fixed texts; read once in a dtype."""
        if dtype not in self._baselines:
            scratch = unfinished(self.output, "baseline")
            scratch.mkdir()
            try:
                self._baselines[dtype] = reading_of(
                    self.source.place, dtype=dtype, scratch=scratch, name="baseline"
                )
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return self._baselines[dtype]
