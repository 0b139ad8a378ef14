"""FlipsGGUF: GGUF files in the harness, run by llama.cpp in process, registered as `flips-gguf`."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lm_eval.api.registry import register_model

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.evaluation.model_files import files_fingerprint
from lm_eval_flips.harness.models.llama_lm import LlamaLM
from lm_eval_flips.harness.models.scored_lm import ScoredLM
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import (
    ModelIdentity,
    Options,
    tokenizer_fingerprint,
    vocabulary_fingerprint,
)
from lm_eval_flips.scoring.llama_cpp.files import model_file
from lm_eval_flips.scoring.llama_cpp.model import Computing, LlamaModel
from lm_eval_flips.scoring.llama_cpp.scorer import LlamaScorer
from lm_eval_flips.scoring.llama_cpp.trial import refuse_other_processors
from lm_eval_flips.scoring.lm_head import UnreadableHeadError

logger = logging.getLogger(__name__)

WRITTEN_AT_ONCE = 8  # texts, where the harness says batch_size=auto


@register_model("flips-gguf")
class FlipsGGUF(ScoredLM, LlamaLM):
    """A GGUF file, scored by llama.cpp with every shared token computed once.

    Args:
        gguf: the file, any part of a split one, or a folder that holds one model.
        record: run folder in which to record this model as a baseline (``RUN/reference/``).
        reference: run folder of a recorded baseline to measure distances from.
        distances: run folder for these distances (``RUN/token_distances/``).
        positions: "all" records every scored position, "last" a context's last one only.
        top: record this many of the most likely tokens instead of hidden states.
        pack_tokens: most tokens that are read at once.
        max_length: most tokens that the model reads; by default what the file says.
        add_bos_token: begin texts with the BOS token; by default what the file says.
        n_threads: threads of the CPU; by default as many as torch takes.
        n_gpu_layers: layers on a GPU, -1 for all; by default llama.cpp's own, 0 with --device cpu.
        n_ubatch: tokens that llama.cpp computes at once.
        cache_type: "f16", "bf16", "f32" or "q8_0", the numbers of cached keys and values.
        flash_attention: "auto", "on" or "off".
        batch_size: texts that are written at the same time; log-likelihoods do not heed it.
        max_batch_size: not heeded.
        device: "cpu" keeps all layers off a GPU.

    Raises:
        HarnessError: llama.cpp is missing or cannot run the file, or what is asked for cannot be
            done with it or with these folders.
    """

    def __init__(
        self,
        gguf: str,
        *,
        record: str | None = None,
        reference: str | None = None,
        distances: str | None = None,
        positions: str = "all",
        top: int | None = None,
        pack_tokens: int | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int | None = None,
        n_ubatch: int = 512,
        cache_type: str = "f16",
        flash_attention: str = "auto",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        if n_gpu_layers is None and str(device).startswith("cpu"):
            n_gpu_layers = 0
        try:
            path = model_file(gguf)
            computing = Computing(
                threads=n_threads or torch.get_num_threads(),
                gpu_layers=n_gpu_layers,
                cache_type=cache_type,
                flash_attention=flash_attention,
                micro_batch=n_ubatch,
            )
            options = Options.of(
                record=record,
                reference=reference,
                distances=distances,
                positions=positions,
                top=top,
            )
            refuse_other_processors(path, gpu_layers=n_gpu_layers)
            model = LlamaModel(path, computing)
            super().__init__(
                model,
                max_length=max_length,
                batch_size=_texts_at_once(batch_size),
                add_bos_token=add_bos_token,
            )
            self._set_up(model, options, pack_tokens)
        except FlipsError as error:
            raise HarnessError(str(error)) from None

    def get_model_info(self) -> dict[str, Any]:
        """What the harness logs of the model, and how it was computed."""
        computing = self.model.computing
        return {
            "model_num_parameters": self.model.parameters,
            "model_file_type": self.model.file_type,
            "model_bytes": self.model.bytes,
            "model_architecture": self.model.metadata("general.architecture"),
            "scoring": (self._scorer.refusal if self._scorer else None) or "packed",
            "llama_cpp": self.model.library.source,
            "cache_type": computing.cache_type,
            "flash_attention": computing.flash_attention,
        }

    def _set_up(self, model: LlamaModel, options: Options, pack_tokens: int | None) -> None:
        keeps_states = options.record is not None and options.top is None
        scorer = LlamaScorer(model, budget=pack_tokens and int(pack_tokens), hidden=keeps_states)
        identity = ModelIdentity(
            name=str(model.path),
            revision="",
            dtype=model.file_type,
            tokenizer=tokenizer_fingerprint(self.tokenizer),
            entries=len(self.tokenizer.get_vocab()),
            max_length=self.max_length,
            files=files_fingerprint(model.path),
            vocabulary=vocabulary_fingerprint(self.tokenizer),
        )
        try:
            self._recording = Recording(
                options,
                model=scorer.model,
                hidden=torch.empty(1, model.width),
                identity=identity,
                rank=self.rank,
            )
        except UnreadableHeadError as error:
            raise FlipsError(
                f"the states of '{model.path}' cannot be recorded: {error}; give top=100 to record "
                "its most likely tokens instead"
            ) from None
        for note in self._recording.notes:
            logger.warning("%s", note)
        self._scorer = scorer


def _texts_at_once(batch_size: int | str | None) -> int:
    if batch_size is None:
        return 1
    if str(batch_size).startswith("auto"):
        return WRITTEN_AT_ONCE
    return int(batch_size)
