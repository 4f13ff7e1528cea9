#!/bin/sh
# Builds for this machine's GPU, runs the device tests and compute-sanitizer, times a few shapes beside the cpu backend, and writes ONE
# report: bench/gpu_report_<device>_<date>.md. Exit 0: everything passed; 1: something failed, and the report says what; 3: something is
# missing, which is named, and nothing is written. Needs nvcc, an NVIDIA driver with a device, compute-sanitizer, CMake and what
# tools/test.sh installs. SPDX-License-Identifier: MIT
set -eu
cd "$(dirname "$0")/.."

missing=
for tool in nvcc nvidia-smi compute-sanitizer cmake ctest; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  echo "Not on the PATH:$missing. nvcc and compute-sanitizer come with the CUDA toolkit, nvidia-smi with the driver." >&2
  echo "Nothing was built or written." >&2
  exit 3
fi
# One line a device; the first, or the first of CUDA_VISIBLE_DEVICES, is the one that the program uses.
device=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader -i "${CUDA_VISIBLE_DEVICES:-0}" 2>/dev/null | head -n 1) || device=
if [ -z "$device" ]; then
  echo "nvidia-smi names no device: $(nvidia-smi 2>&1 | head -n 1)" >&2
  echo "Nothing was built or written." >&2
  exit 3
fi
name=$(echo "$device" | cut -d, -f1)
report=bench/gpu_report_$(echo "$name" | tr -cs 'A-Za-z0-9\n' '-')_$(date +%Y-%m-%d).md

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
text=$work/report.md
failures=0
softntk=build/gpu/softntk

say() { printf '%s\n' "$@" >>"$text"; }

# record WHAT LOG COMMAND...: a table row, and the log's end below the table where it failed.
record() {
  what=$1 log=$work/$2.log
  shift 2
  start=$(date +%s)
  if "$@" >"$log" 2>&1; then outcome=passed; else
    outcome="**failed** (exit $?)"
    failures=$((failures + 1))
    { echo; echo "$what:"; echo; tail -n 40 "$log" | sed 's/^/    /'; } >>"$work/failed.md"
  fi
  echo "$what: $outcome"
  say "| $what | $outcome | $(($(date +%s) - start)) |"
}

echo "Building for $name (build/gpu) ..."
build() {
  cmake --preset release -B build/gpu -DSNTK_CUDA=ON -DSNTK_BUILD_TESTS=ON -DSNTK_CUDA_ARCHITECTURES=native && cmake --build build/gpu
}
if ! build >"$work/build.log" 2>&1; then
  tail -n 40 "$work/build.log" >&2
  echo "The build failed; the end of its output is above. No report was written." >&2
  exit 1
fi
if ! "$softntk" info --backend cuda >"$work/info.txt" 2>&1; then
  cat "$work/info.txt" >&2
  echo "The cuda backend does not open on this machine. No report was written." >&2
  exit 3
fi

commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || commit=
if [ -z "$commit" ]; then commit=unknown; elif ! git diff --quiet HEAD; then commit="$commit, with changes"; fi
say "# softntk on $name" "" \
  "Written by \`tools/gpu_check.sh\` on $(date -u +%Y-%m-%dT%H:%M:%SZ)." "" \
  "- device, driver, memory: $device" \
  "- nvcc: $(nvcc --version | sed -n 's/.*release //p')" \
  "- compute-sanitizer: $(compute-sanitizer --version | sed -n 's/.*[Vv]ersion //p' | head -n 1)" \
  "- host: $(uname -sr), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(getconf _NPROCESSORS_ONLN) processors" \
  "- commit: $commit" ""
sed 's/^/    /' "$work/info.txt" >>"$text"

say "" "## Checks" "" "| check | outcome | seconds |" "| --- | --- | --- |"
record "ctest -L gpu" ctest ctest --test-dir build/gpu -L gpu --no-tests=error --output-on-failure
case=0
for tool in memcheck racecheck synccheck initcheck; do
  for command in \
    "train --set network.activation=softmax --set network.form=plain --set train.steps=3 --set train.kernel_every=3" \
    "train --set network.activation=exp --set network.outputs=3 --set train.steps=3" \
    "train --set network.activation=softmax --set tensor_cores=true --set train.steps=3" \
    "ntk --set network.activation=relu" \
    "width --set network.activation=softmax --set train.steps=3 --set width.max_width=4"; do
    case=$((case + 1))
    width="--set network.width=100"
    case $command in width*) width= ;; esac
    # shellcheck disable=SC2086
    record "$tool: $command" "sanitizer$case" compute-sanitizer --tool "$tool" --error-exitcode 9 "$softntk" $command $width --backend cuda --quiet \
      --out "$work/run$case" --set data.source=sphere --set data.samples=20 --set data.dim=9 --set train.tolerance=0
  done
done
if [ -f "$work/failed.md" ]; then cat "$work/failed.md" >>"$text"; fi

# seconds_of ARGUMENTS...: the median time of a run of the benchmark.
seconds_of() { "$softntk" bench "$@" --json 2>>"$work/time.log" | sed -n 's/.*"median_s":\([0-9.e+-]*\).*/\1/p'; }

row() { # SHAPE CPU_SECONDS CUDA_SECONDS UNITS
  say "| $1 | $(awk -v a="$2" -v b="$3" -v u="$4" 'BEGIN {
    if (a == "" || b == "") { print "failed | failed | "; exit }
    if (u > 0) printf "%.4g | %.4g | %.3g", u / a, u / b, a / b; else printf "%.4g | %.4g | %.3g", a, b, a / b }') |"
}

echo "Timing ..."
say "" "## Times" "" "\`softntk bench\`, float32, softmax, one output, medians. Steps a second:" "" \
  "| n, d, m, form | cpu | cuda | ratio |" "| --- | --- | --- | --- |"
for shape in "256 16 65536 plain" "1024 32 131072 plain" "1024 32 131072 displacement" "1024 128 65536 plain"; do
  # shellcheck disable=SC2086
  set -- $shape
  common="--samples $1 --dim $2 --width $3 --form $4"
  # shellcheck disable=SC2086
  row "$1, $2, $3, $4" "$(seconds_of step $common --backend cpu)" "$(seconds_of step $common --backend cuda)" 1
done
say "" "Seconds of the Gram matrix, statistics and random weights included:" "" "| n, d, m | cpu | cuda | ratio |" "| --- | --- | --- | --- |"
for shape in "256 16 65536" "1024 32 65536" "4096 32 65536"; do
  # shellcheck disable=SC2086
  set -- $shape
  common="--samples $1 --dim $2 --width $3"
  # shellcheck disable=SC2086
  row "$1, $2, $3" "$(seconds_of gram $common --backend cpu)" "$(seconds_of gram $common --backend cuda)" 0
done
if [ -s "$work/time.log" ]; then { echo; echo "Messages of the timed runs:"; echo; sed 's/^/    /' "$work/time.log"; } >>"$text"; fi

mv "$text" "$report"
echo "$report written; $failures checks failed."
[ "$failures" -eq 0 ]
