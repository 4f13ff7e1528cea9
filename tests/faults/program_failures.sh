#!/bin/sh
# Every CUDA call of the program's train and ntk fails once: exit 3 or 4, and one line on standard error that names the call.
# program_failures.sh SOFTNTK. SPDX-License-Identifier: MIT
set -eu
softntk=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset EMU_FAIL_AT
for command in train ntk; do
  k=1
  while :; do
    rm -rf run
    rc=0
    EMU_FAIL_AT=$k "$softntk" "$command" --backend cuda --quiet --out run --set network.activation=softmax --set network.width=16 \
      --set data.source=sphere --set data.samples=4 --set data.dim=3 --set train.steps=3 --set train.tolerance=0 >out 2>err || rc=$?
    [ $rc -ne 0 ] || break
    if [ $rc -ne 3 ] && [ $rc -ne 4 ]; then
      echo "$command, call $k: exit $rc: $(cat err)"
      exit 1
    fi
    if [ "$(wc -l <err)" -ne 1 ] || ! grep -Eq 'cuda[A-Z]|cublas|cusolver|launch_' err; then
      echo "$command, call $k: not one line that names the call: $(cat err)"
      exit 1
    fi
    k=$((k + 1))
  done
  if [ "$k" -lt 30 ]; then
    echo "$command: untouched with call $k failing: was it swallowed?"
    exit 1
  fi
  echo "$command: each of $((k - 1)) calls failed in turn"
done
