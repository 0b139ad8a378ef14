"""Models that choose the tokens they see: told by their config, or found out by the trial."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING, AutoConfig

from lm_eval_flips.scoring.prefix_tree import plan
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.lengths import chooses_beyond
from lm_eval_flips.scoring.transformers.packing_check import PackingCheck
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests.scoring import models
from tests.scoring.transformers.test_packing_check import off

# Older transformers have fewer of them.
KNOWN = [name for name in models.CHOOSING if name in CONFIG_MAPPING]
TOKENS = {"deepseek_v32", "axk2", "glm_moe_dsa", "hy_v4", "mistral_large4", "dots3_note"}
POOLED = {"deepseek_v4", "glm5_next"}


@pytest.mark.parametrize("name", KNOWN)
def test_a_model_that_chooses_its_keys_is_read_plainly(name: str) -> None:
    """Requests longer than what is chosen from: the numbers are the model's own, and it is said."""
    model = models.build(name)
    scorer = Scorer(CausalModel(model), budget=1024)
    assert off(model, models.few_shot(questions=2), scorer) < 2e-5
    assert (
        scorer.refusal
        == f"its layers choose the tokens of requests of more than {models.CHOSEN} tokens that they see"
    )


@pytest.mark.parametrize("name", KNOWN[:1])
def test_packed_it_would_be_wrong(name: str) -> None:
    """Control: without the config's word and the trial, a pack is off by far more than rounding."""
    model = models.build(name)
    reader = CausalModel(model)
    reader.chooses_beyond = None
    scorer = Scorer(reader, budget=1024)
    scorer._check.run = lambda *_: None  # type: ignore[method-assign]
    assert off(model, models.few_shot(questions=2), scorer) > 0.05


@pytest.mark.parametrize("name", KNOWN[:1])
def test_the_trial_sees_it_in_the_longest_request_alone(name: str) -> None:
    """Many short requests say nothing; one long one among them does, wherever it stands."""
    model = models.build(name)
    short = [
        request for i in range(4) for request in models.few_shot(shots=2, questions=1)[:2] if i < 3
    ]
    reader = CausalModel(model)
    reader.chooses_beyond = None
    few = [request for request in short if len(request.fed) <= models.CHOSEN]
    check = PackingCheck(reader)
    check.run(few, plan(few, budget=1024))
    assert check.refusal is None
    long = models.few_shot(questions=1)[:2]
    check.run([*few, *long], plan([*few, *long], budget=1024))
    assert "nats from plain ones" in str(check.refusal)


@pytest.mark.parametrize("name", KNOWN[:1])
def test_short_requests_of_it_are_packed(name: str) -> None:
    """All tokens are chosen then: packed is plain."""
    model = models.build(name, index_topk=models.LONGEST)
    scorer = Scorer(CausalModel(model), budget=1024)
    assert off(model, models.few_shot(questions=2), scorer) < 2e-5
    assert scorer.refusal is None


@pytest.mark.parametrize("name", sorted((TOKENS | POOLED) & set(CONFIG_MAPPING)))
def test_the_configs_of_such_models_are_known(name: str) -> None:
    """The number of tokens, or 0 where the layers choose among means of several."""
    config = AutoConfig.for_model(name).get_text_config(decoder=True)
    chosen = chooses_beyond(config)
    assert chosen == (config.index_topk if name in TOKENS else 0)


@pytest.mark.parametrize("name", sorted({own.split()[0] for own in models.PACKED}))
def test_the_configs_of_all_others_are_not(name: str) -> None:
    """Control: nothing else is sent to the plain path by its config."""
    assert chooses_beyond(AutoConfig.for_model(name).get_text_config(decoder=True)) is None
