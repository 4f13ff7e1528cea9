#!/usr/bin/env bats
# A run that several processes share is done when all of it is. SPDX-License-Identifier: MIT
load helper

status_of() { records get "$1"/run.json status; }

@test "a run is done when its last shard is, whichever that is; until then what is missing is said" {
  write_tiny c.yaml
  grid='grid.seed=[1, 2, 3, 4, 5, 6, 7]'
  expect 0 sweep c.yaml --quiet --set "$grid" --out whole --threads 1
  for order in '0 1 2 3' '3 1 0 2' '2 3 1 0'; do
    left=4
    for shard in $order; do
      equal "status before shard $shard of $order" "$([ ! -f s/run.json ] || status_of s)" "$([ $left -eq 4 ] || echo running)"
      expect 0 sweep c.yaml --set "$grid" --out s --threads 1 --resume --shard "$shard/4"
      left=$((left - 1))
      if [ $left -gt 0 ]; then
        has err 'note: [0-9]+ of 7 points of the grid are left to shards that have not finished: '
        lacks err " $shard/4"
      else
        empty err
      fi
    done
    equal status "$(status_of s)" 'done'
    equal 'the shards' "$(records get s/run.json shards | tr -d ' ' | tr ',{}' '\n' | grep -c ':"done"')" 4
    equal 'rows of the last table' "$(grep -c '^softmax' out)" 7 # with the points of all
    records same s/points.*.jsonl | sort >parts.txt
    records same whole/points.jsonl | sort | cmp - parts.txt
    rm -r s
  done
}

@test "shards that own no point need not be started" {
  write_tiny c.yaml
  for shard in 0 1; do
    expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2]' --out s --resume --shard $shard/8
  done
  empty err
  equal status "$(status_of s)" 'done'
}

@test "a process without shards, or with others, finishes what shards left" {
  write_tiny c.yaml
  grid='grid.seed=[1, 2, 3, 4]'
  expect 0 sweep c.yaml --quiet --set "$grid" --out s --shard 1/3
  equal status "$(status_of s)" running
  expect 0 sweep c.yaml --quiet --set "$grid" --out s --resume --shard 0/2
  expect 0 sweep c.yaml --quiet --set "$grid" --out s --resume --shard 1/2
  equal status "$(status_of s)" 'done'
  expect 0 sweep c.yaml --quiet --set "$grid" --out u --shard 1/3
  expect 0 sweep c.yaml --quiet --set "$grid" --out u --resume
  equal status "$(status_of u)" 'done'
}

@test "shards at once: every one's state is kept" {
  write_tiny c.yaml
  grid='grid.seed=[1, 2, 3, 4, 5, 6, 7, 8]'
  pids=()
  for shard in 0 1 2 3 4 5; do
    "$SOFTNTK" sweep c.yaml --quiet --set "$grid" --out s --threads 1 --resume --shard $shard/6 >/dev/null 2>>bg.err </dev/null 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  equal status "$(status_of s)" 'done'
  equal points "$(cat s/points.*.jsonl | wc -l)" 8
  absent s/run.json.points.*.tmp
}

@test "shards of which all points fail: the run failed; of which some do, it is done" {
  write_tiny c.yaml
  sigma='grid.network.sigma=[2000, 2001, 2002]'
  expect 5 sweep c.yaml --quiet --set network.activation=exp --set "$sigma" --out f --resume --shard 0/2
  equal status "$(status_of f)" running
  expect 5 sweep c.yaml --quiet --set network.activation=exp --set "$sigma" --out f --resume --shard 1/2
  equal status "$(status_of f)" failed
  sigma='grid.network.sigma=[2000, 1, 2002]'
  expect 5 sweep c.yaml --quiet --set network.activation=exp --set "$sigma" --out s --resume --shard 0/2
  expect 0 sweep c.yaml --quiet --set network.activation=exp --set "$sigma" --out s --resume --shard 1/2
  equal status "$(status_of s)" 'done'
  has s/run.json '"failed_points": 2'
}

@test "--shard auto in a batch script that does not use srun is refused with the cure" {
  write_tiny c.yaml
  export SLURM_JOB_ID=1 SLURM_PROCID=0 SLURM_NTASKS=4
  expect 2 sweep c.yaml --quiet --set 'grid.seed=[1, 2]' --out s --shard auto
  one_line 'SLURM_NTASKS is 4, but this process is in no job step .*start it with srun'
  absent s
  export SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 # as under srun
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2]' --out s --shard auto
  [ -f s/points.0of4.jsonl ]
  unset SLURM_STEP_ID SLURM_STEP_NUM_TASKS
  export SLURM_NTASKS=1
  expect 0 sweep c.yaml --quiet --set 'grid.seed=[1, 2]' --out whole --shard auto
  equal points "$(records lines whole/points.jsonl)" 2
}
