#!/usr/bin/env bats
# Progress: a line on a terminal, nothing anywhere else. SPDX-License-Identifier: MIT
load helper

write_endless() {
  write_tiny c.yaml
  sed -i 's/steps: 20/steps: 1000000000000, record_every: 0/' c.yaml
}

# Ends the program by SIGINT after two seconds; its own exit code is kept.
STOPPED='timeout --foreground --preserve-status -s INT 2'

@test "no progress into a pipe or file" {
  write_endless
  rc=0
  $STOPPED "$SOFTNTK" train c.yaml >out 2>err || rc=$?
  equal "exit code" "$rc" 75
  empty out
  one_line '^softntk: interrupted; '
  lacks err $'\r'
}

@test "progress on a terminal, rewritten in place and removed at the end; none with --quiet" {
  command -v script >/dev/null || skip "script (util-linux, Debian package bsdutils) is not there to make a terminal"
  script -qec true /dev/null >/dev/null 2>&1 </dev/null || skip "script cannot make a terminal here"
  write_endless
  rc=0
  script -qec "$STOPPED '$SOFTNTK' train c.yaml" /dev/null >screen </dev/null || rc=$?
  equal "exit code" "$rc" 75
  has screen $'\r''train [0-9]+/1000000000000, loss [0-9.e+-]+, [0-9.e+]+/s, at most [0-9]+ s left' 'interrupted; '
  # the last thing before the message is the line's removal
  has screen $'\r\033''\[Ksoftntk: interrupted'
  rc=0
  script -qec "$STOPPED '$SOFTNTK' train c.yaml --quiet --out quiet" /dev/null >screen </dev/null || rc=$?
  equal "exit code" "$rc" 75
  equal 'what the terminal saw' "$(tr -d '\r' <screen)" \
    'softntk: interrupted; no point was finished, and there are no checkpoints within one: --resume begins it anew'
}

@test "with --json on standard output, progress goes to the terminal alone" {
  command -v script >/dev/null || skip "script (util-linux, Debian package bsdutils) is not there to make a terminal"
  script -qec true /dev/null >/dev/null 2>&1 </dev/null || skip "script cannot make a terminal here"
  write_endless
  script -qec "$STOPPED '$SOFTNTK' sweep c.yaml --json --set 'grid.train.steps=[1, 1000000000000]' >lines" /dev/null \
    >screen </dev/null || true
  equal lines "$(records lines lines train)" 1
  has screen 'point 2/2, train [0-9]+/'
}
