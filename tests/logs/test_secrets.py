"""Secrets in a run's settings: known by their name, their place or their form, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.logs.secrets import MASK, is_secret, masked, masked_arguments, masked_text
from tests.generators import logs

SECRETS = (
    *("api_key", "OPENAI_API_KEY", "apiKey", "openai-api-key", "key", "x-api-key", "azure_api_key"),
    *("token", "hf_token", "auth_token", "access_token", "HF_HUB_TOKEN", "bearerToken"),
    *("password", "passwd", "pwd", "secret", "client_secret", "aws_secret_access_key"),
    *("Authorization", "proxy-authorization", "header", "headers", "extra_headers", "cookie"),
    *("credentials", "private_key", "subscription-key"),
    *("AZURE_KEY", "openai_key", "together-key", "anthropicKey"),
)
PLAIN = (
    *("tokenizer", "tokenizer_backend", "tokenized_requests", "max_tokens", "max_gen_toks"),
    *("eos_token", "add_bos_token", "pad_token", "prefix_token_id", "think_end_token", "keys"),
    *("pretrained", "dtype", "revision", "num_concurrent", "base_url", "author", "monkey"),
    *("max_length", "device_map", "passes", "keyword", "prefix_token"),
    *("doc_key", "cache_key", "num_key_value_heads", "key_padding"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    """As a key, in one string of arguments, and in JSON within a string."""
    assert is_secret(name)
    assert masked({"model": "m", name: "s3cr3t"}) == {"model": "m", name: MASK}
    assert masked_text(f"model=m,{name}=s3cr3t,dtype=auto") == f"model=m,{name}={MASK},dtype=auto"
    assert masked_text(json.dumps({name: "s3cr3t", "n": 1})) == json.dumps({name: MASK, "n": 1})


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_secret_stays_as_it_is(name: str) -> None:
    """Control: settings that explain scores must not vanish from what differs."""
    assert not is_secret(name)
    assert masked({name: "value"}) == {name: "value"}
    assert masked_text(f"{name}=value,other=1") == f"{name}=value,other=1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:pa55@host/v1", f"https://{MASK}@host/v1"),
        ("url=http://t0ken@host:80,n=1", f"url=http://{MASK}@host:80,n=1"),
        ("http://host/v1?api_key=abc&n=1", f"http://host/v1?api_key={MASK}&n=1"),
        ("tokenizer=http://host/?token=abc", f"tokenizer=http://host/?token={MASK}"),
        ("Authorization: Bearer abc.def-1", f"Authorization: {MASK}"),
        ('header={"Authorization": "Bearer a", "x-team": "b"},n=1', f"header={MASK},n=1"),
        ("HF_TOKEN=hf_AbCdEf0123456789\nPATH=/bin", f"HF_TOKEN={MASK}\nPATH=/bin"),
        ("sent with Bearer abcdef", f"sent with Bearer {MASK}"),
        ("it was sk-proj-0123456789abcdef", f"it was {MASK}"),
        ("https://host/v1", "https://host/v1"),
        ("models/at@home", "models/at@home"),
        ("use_auth_token=True,api_key=None", "use_auth_token=True,api_key=None"),
    ],
)
def test_a_secret_is_known_by_its_place_and_its_form(text: str, shown: str) -> None:
    """In addresses, headers and the environment; and masked once, it stays so."""
    assert masked_text(text) == shown
    assert masked_text(shown) == shown


def test_every_depth_is_masked() -> None:
    """Lists and records within records; numbers, booleans and nothing stay."""
    given = {"a": [{"password": 12345, "n": 5}], "use_auth_token": True, "token": None, "k": 0.5}
    assert masked(given) == {
        "a": [{"password": MASK, "n": 5}],
        "use_auth_token": True,
        "token": None,
        "k": 0.5,
    }


def test_a_command_lines_secrets_are_masked() -> None:
    """The value of a flag of that name, beside it or behind "="; other flags keep theirs."""
    given = ["--hf_token", "abc", "--api-key=abc", "--limit", "8", "--gen_kwargs", "api_key=abc"]
    assert masked_arguments(given) == [
        *("--hf_token", MASK, f"--api-key={MASK}", "--limit", "8"),
        *("--gen_kwargs", f"api_key={MASK}"),
    ]


@pytest.mark.parametrize(
    "args",
    [
        {"model": "m", "api_key": "s3cr3t", "base_url": "http://ann:s3cr3t@host:{port}/v1"},
        "model=m,api_key=s3cr3t,base_url=http://ann:s3cr3t@host:{port}/v1",
    ],
)
def test_where_a_model_was_served_is_no_setting(tmp_path: Path, args: Any) -> None:
    """Neither key nor address tell how it was scored; how many tokens it may read does."""
    runs = []
    for port in (8000, 8001):
        config = json.loads(json.dumps(args).replace("{port}", str(port)))
        file = logs.write_run(tmp_path / str(port), {"task": [logs.choice(0, [-1.0, -2.0])]})
        results = json.loads(file.read_text())
        results["config"]["model_args"] = config
        results["max_length"] = port
        file.write_text(json.dumps(results))
        runs.append(load_run(file))
    assert not any("s3cr3t" in repr(run) for run in runs)
    first, second = (run.settings for run in runs)
    assert {name for name in first if first[name] != second[name]} == {"max_length"}
