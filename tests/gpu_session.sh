#!/usr/bin/env bash
# A session on a graphics card, or its trial without one: the tests marked gpu, `cdlm bench step`, and then runs of Table 2 in an
# order of importance, as many as fit. What is done is on disk as it comes, and the same command goes on from there.
#
#   tests/gpu_session.sh OUT [MINUTES]      OUT gets records, logs, and the runs that were cut off; 8 minutes if not said
#
# Variables, with their values if not set: DEVICE=cuda, PROFILE=gpu, LANES=4 (runs side by side), PYTHON=python3,
# TASKS and ROWS (which runs, in their order), INPUTS (a file that gpu_inputs.sh has made; else data are looked for as always).
set -euo pipefail
out=$(mkdir -p "${1:?where to write}" && cd "$1" && pwd)
minutes=${2:-8}
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda} profile=${PROFILE:-gpu} lanes=${LANES:-4} python=${PYTHON:-python3}
tasks=${TASKS:-mnist-usps mnist-mnistm usps-mnist fashion-fashionm mnistm-mnist fashionm-fashion}
rows=${ROWS:-improved no-decoder target-only adversarial source-only faithful}
export PYTHONPATH=$PWD
left() { echo $((60 * minutes - SECONDS)); }

if [[ -n ${INPUTS:-} ]]; then
  mkdir -p "$out/data" && tar -xf "$INPUTS" -C "$out/data"
  find "$out/data" -name '*.xz' -exec xz -df {} +
  export CDLM_DATA=$out/data
fi

if [[ ! -e $out/tests.log ]]; then
  timeout 150 "$python" -m pytest -q -n 0 -m gpu tests/training/test_gpu.py >"$out/tests.part" 2>&1 || echo "tests: exit status $?"
  mv "$out/tests.part" "$out/tests.log"
  tail -n 1 "$out/tests.log"
fi
if [[ ! -e $out/step_speed.json ]]; then
  timeout 120 "$python" -m cdlm bench step --device "$device" --quick --out "$out/step_speed.json" >"$out/bench.log" 2>&1 ||
    echo "bench: exit status $?"
fi

# one NAME: a run of Table 2, until the time is up; an interrupt leaves a checkpoint.
one() {
  local number
  number=$(awk -v name="$1" '$3 == name {print $1; exit}' "$out/jobs.txt")
  (($(left) > 10)) || return 0
  timeout --signal=INT --kill-after=20 "$(left)" "$python" -m cdlm reproduce table2 --seeds 1-3 --profile "$profile" \
    --job "$number" --device "$device" --results "$out/records" --work "$out/runs" >"$out/logs/$1.log" 2>&1 &&
    echo "$1: on record after $SECONDS s" || echo "$1: $(tail -n 1 "$out/logs/$1.log")"
}

mkdir -p "$out/logs" "$out/records"
"$python" -m cdlm reproduce table2 --seeds 1-3 --profile "$profile" --results "$out/records" --list >"$out/jobs.txt"
for seed in 1 2 3; do
  for task in $tasks; do
    for row in $rows; do
      name=${task}_${row}_s$seed
      grep -q "todo $name\$" "$out/jobs.txt" || continue
      (($(left) > 10)) || break 3
      while (($(jobs -rp | wc -l) >= lanes)); do wait -n || true; done
      one "$name" &
    done
  done
done
wait
echo "$(find "$out/records" -name '*.json' | wc -l) runs are on record in $SECONDS s"
