# What the command-line tests share. The environment gives SOFTNTK (the program), PYTHON (an interpreter), H5_LIST (the
# helper beside this file) and SOURCE (the repository's root). SPDX-License-Identifier: MIT
#
# A command under `!` or in a list never fails a bats test, so absence is checked by the functions below.

bats_require_minimum_version 1.5.0

# Each test runs in an empty directory of its own, which bats removes.
setup() {
  cd "$BATS_TEST_TMPDIR" || return 1
  unset OMP_NUM_THREADS SLURM_ARRAY_TASK_ID SLURM_ARRAY_TASK_COUNT SLURM_PROCID SLURM_NTASKS SLURM_STEP_ID SLURM_STEP_NUM_TASKS OMPI_COMM_WORLD_RANK \
    OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE SNTK_PYTHON
  export CUDA_VISIBLE_DEVICES="" # a machine with a device must refuse --backend cuda as one without
  # SOFTNTK_BACKEND runs every case on that backend where the case names none: the last --backend counts.
  if [ -n "${SOFTNTK_BACKEND:-}" ]; then
    cat >"$BATS_FILE_TMPDIR/softntk" <<SH
#!/bin/sh
case "\$1" in
train | ntk | perturb | width | sweep) command=\$1; shift; exec "$SOFTNTK" "\$command" --backend "$SOFTNTK_BACKEND" "\$@" ;;
*) exec "$SOFTNTK" "\$@" ;;
esac
SH
    chmod +x "$BATS_FILE_TMPDIR/softntk"
    SOFTNTK=$BATS_FILE_TMPDIR/softntk
  fi
}

fail() {
  echo "$*"
  return 1
}

records() { "$PYTHON" "$SOURCE/tests/cli/records.py" "$@"; }

# Runs the program: exit code in $rc, output in the files out and err of the test's directory.
softntk() {
  rc=0
  "$SOFTNTK" "$@" >out 2>err </dev/null || rc=$?
}

# A run that must exit with the code given first.
expect() {
  local wanted=$1
  shift
  softntk "$@"
  [ "$rc" -eq "$wanted" ] || fail "exit $rc, not $wanted: softntk $*
$(cat out err)"
}

# After expect: standard error is one line that matches every extended regular expression given.
one_line() {
  [ "$(wc -l <err)" -eq 1 ] || fail "not one line on standard error:
$(cat err)"
  local pattern
  for pattern in "$@"; do
    grep -Eq -- "$pattern" err || fail "'$pattern' is not in: $(cat err)"
  done
}

literal() { sed 's/[.+*]/\\&/g' <<<"$1"; } # as a pattern

has() { # FILE PATTERN...
  local file=$1 pattern
  shift
  for pattern in "$@"; do
    grep -Eq -- "$pattern" "$file" || fail "'$pattern' is not in $file: $(cat "$file")"
  done
}

lacks() { # FILE PATTERN
  if grep -Eq -- "$2" "$1"; then fail "'$2' is in $1: $(cat "$1")"; fi
}

empty() { # FILE...
  local file
  for file in "$@"; do
    [ ! -s "$file" ] || fail "$file is not empty: $(cat "$file")"
  done
}

absent() { # PATH...
  local path
  for path in "$@"; do
    [ ! -e "$path" ] || fail "$path is there: $(ls -R "$path")"
  done
}

equal() { # WHAT GOT WANTED
  [ "$2" = "$3" ] || fail "$1 is $2, not $3"
}

# Names and contents of everything below a directory, as one sum.
sum_of() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 -r sha256sum | sha256sum); }

# Waits until a file has so many lines, for at most a minute.
wait_for_lines() { # FILE COUNT
  local tries=0 lines=0
  until [ "$lines" -ge "$2" ]; do
    tries=$((tries + 1))
    [ $tries -lt 3000 ] || fail "$1 has $lines lines and does not get $2"
    sleep 0.02
    [ ! -f "$1" ] || lines=$(wc -l <"$1")
  done
}

# A training of a few milliseconds.
write_tiny() { # FILE [NAME]
  cat >"$1" <<YAML
name: ${2:-tiny}
network: {activation: softmax, width: 32}
data: {source: sphere, samples: 6, dim: 4}
train: {steps: 20, tolerance: 0}
YAML
}
