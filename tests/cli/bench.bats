#!/usr/bin/env bats
# softntk bench: its answers and its errors. What it measures is looked at elsewhere. SPDX-License-Identifier: MIT
load helper

@test "bench --json prints one object a case with the contract's keys, and figures that fit together" {
  expect 0 bench step --json --samples 33 --dim 5 --width 600 --outputs 2 --threads 1
  empty err
  equal lines "$(records lines out)" 1
  "$PYTHON" - out <<'PY'
import json, sys
r = json.loads(open(sys.argv[1]).read())
assert (r["kind"], r["case"], r["activation"], r["precision"], r["form"]) == ("bench", "step", "softmax", "f32", "plain"), r
assert (r["samples"], r["dim"], r["width"], r["outputs"], r["threads"]) == (33, 5, 600, 2, 1), r
assert 0 < r["q1_s"] <= r["median_s"] <= r["q3_s"], r
assert r["runs"] >= 7 and r["flops"] == 6 * 33 * 5 * 600 and r["exps"] == 2 * 33 * 600, r
assert abs(r["bound_share"] - r["bound_s"] / r["median_s"]) < 1e-12 and 0 < r["bound_share"] < 1.5, r
for key in ("peak_multiply_adds_per_s", "peak_gemm_flops_per_s", "peak_exps_per_s", "peak_bytes_per_s"):
    assert r[key] > 0, key
assert r["syrk_share"] is None and r["bytes"] == 600 * (5 * 4 * 2 + 2), r
PY
}

@test "bench compare runs the three activations alternately" {
  expect 0 bench compare --json --samples 16 --dim 3 --width 128 --threads 1 --form displacement
  "$PYTHON" - out <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert [r["activation"] for r in rows] == ["softmax", "relu", "exp"], rows
assert all(r["form"] == "displacement" for r in rows), rows
assert len({r["runs"] for r in rows}) == 1, rows
assert rows[1]["exps"] == 0 and rows[0]["exps"] == 2 * 16 * 128, rows
PY
}

@test "bench gram and rng print tables" {
  expect 0 bench gram --samples 20 --dim 3 --width 500 --precision f64 --threads 1
  grep -qE '^gram +softmax +20 +3 +1 +500 +f64 +plain' out
  grep -q 'limits in this run: .*U U^T' out
  expect 0 bench rng --dim 3 --width 500 --threads 1
  grep -qE '^rng ' out
}

@test "bench refuses what it does not know" {
  expect 2 bench
  one_line 'bench' 'step, gram, rng or compare'
  expect 2 bench stride
  one_line 'stride' 'step, gram, rng or compare'
  expect 2 bench step gram
  one_line 'two benchmarks'
  expect 2 bench step --width 0
  one_line '--width' '0'
  expect 2 bench step --activation gelu
  one_line '--activation' 'gelu' 'softmax'
  expect 2 bench step --out x
  one_line '--out' 'no run'
  expect 2 bench gram --form displacement
  one_line 'displacement' 'plain'
  expect 4 bench step --width 1000000000 --dim 100 --memory-limit 2G
  one_line 'needs' '--width'
  expect 2 train --width 10 --set network.activation=relu
  one_line '--width is for bench' 'network.width'
}
