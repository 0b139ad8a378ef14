"""FlipsHF: the harness's `hf` model with `scoring/` inside, registered as `flips-hf`.

Only what asks for log-likelihoods is scored in another way; loading, tokenising, truncation,
writing and the rest are the harness's. A baseline can record its hidden states and what it writes;
a compressed model, given such a reference, measures its distance from them.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lm_eval.api.registry import register_model

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.harness.answer_recording import AnswerRecording
from lm_eval_flips.harness.models.bitsandbytes_arguments import as_config
from lm_eval_flips.harness.models.scored_lm import ScoredLM
from lm_eval_flips.harness.models.writing_hf import WritingHF
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.loading import refuse_unloadable
from lm_eval_flips.scoring.transformers.scorer import Scorer

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64  # the harness's own, where it looks for a batch size itself


@register_model("flips-hf")
class FlipsHF(ScoredLM, WritingHF):
    """The harness's `hf` model, scoring requests that share a prefix once.

    Takes every model argument of `hf`, and:

    Args:
        pretrained: as for `hf`.
        record: run folder in which to record this model as a baseline (``RUN/reference/``, and
            ``RUN/greedy_answers/`` where it writes).
        reference: run folder of a recorded baseline to measure distances from.
        distances: run folder for these distances (``RUN/token_distances/``, and
            ``RUN/answer_distances/`` where it writes).
        positions: "all" records every scored position, "last" a context's last one only.
        top: record this many of the most likely tokens instead of hidden states.
        pack_tokens: most tokens that are read at once; by default 1024 on a CPU, else 4096.
        softmax_dtype: of the model's plain path; this one's softmaxes are float32 always.

    Raises:
        HarnessError: what is asked for cannot be done with this model or these folders.
    """

    def __init__(
        self,
        pretrained: Any,
        *,
        record: str | None = None,
        reference: str | None = None,
        distances: str | None = None,
        positions: str = "all",
        top: int | None = None,
        pack_tokens: int | None = None,
        softmax_dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        try:
            refuse_unloadable(Path(str(pretrained)))
            super().__init__(pretrained=pretrained, softmax_dtype=softmax_dtype, **kwargs)
            options = Options.of(
                record=record,
                reference=reference,
                distances=distances,
                positions=positions,
                top=top,
            )
            self._set_up(options, pack_tokens)
        except FlipsError as error:
            raise HarnessError(str(error)) from None

    def get_model_info(self) -> dict[str, Any]:
        """What the harness logs of the model, and how its requests were scored."""
        info: dict[str, Any] = super().get_model_info()
        if not isinstance(self._scorer, Scorer):
            return {**info, "scoring": "plain"}
        verdict = self._scorer.verdict
        tried = {"packing_check": verdict} if verdict else {}
        read = {"answers_read": asdict(self.saved)} if self.saved.measured else {}
        return {**info, "scoring": self._scorer.refusal or "packed", **tried, **read}

    def _create_model(self, pretrained: str, **given: Any) -> None:
        super()._create_model(pretrained, **as_config(given))

    def _set_up(self, options: Options, pack_tokens: int | None) -> None:
        """Prepare for scoring; without what that needs the model stays the plain `hf` one."""
        if self.backend != "causal":
            self._stay_plain("it is no causal language model", options)
            return
        if self.mixed_precision_dtype is not None:
            self._stay_plain("mixed_precision_dtype is set", options)
            return
        model = CausalModel(self.model)
        try:
            hidden = model.probe(self.prefix_token_id)
            if len(hidden) != 1:
                raise UnreadableHeadError("it adds tokens of its own to what it reads")
            identity = ModelIdentity.of(self, name=self._name)
            self._recording = Recording(
                options,
                model=model,
                hidden=hidden,
                identity=identity,
                rank=self.rank,
                writes=self.writes,
            )
        except UnreadableHeadError as error:
            self._stay_plain(str(error), options)
            return
        for note in self._recording.notes:
            logger.warning("%s", note)
        size = self.batch_size if isinstance(self.batch_size, int) else LARGEST_BATCH
        self._scorer = Scorer(model, budget=pack_tokens and int(pack_tokens), batch_size=size)
        self.writing = AnswerRecording(
            options,
            recording=self._recording,
            scorer=self._scorer,
            identity=identity,
            rank=self.rank,
        )

    def _stay_plain(self, why: str, options: Options) -> None:
        asked = [name for name in ("record", "reference") if getattr(options, name) is not None]
        if asked:
            raise FlipsError(
                f"'{self._name}' cannot be scored with {' and '.join(asked)}: {why}; use "
                "--model hf, and compare choices"
            )
        logger.warning("flips-hf scores '%s' as hf does: %s", self._name, why)

    @property
    def _name(self) -> str:
        return str(getattr(self.model, "name_or_path", "") or type(self.model).__name__)
