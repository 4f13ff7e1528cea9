#!/usr/bin/env bats
# softntk ntk beyond the whole matrix: its parts, its prefixes, its solvers, its limit alone. SPDX-License-Identifier: MIT
load helper

h5() { "$H5_LIST" "$@"; }
held() { h5 "$1" | cut -d' ' -f1-3; } # paths, types and shapes, in the order of names

write_kernel() { # seven samples, so that a last range of blocks is shorter
  cat >k.yaml <<'YAML'
name: k
network: {activation: softmax, width: 64, outputs: 3}
data: {source: sphere, samples: 7, dim: 4}
YAML
}

# Eight widths up to a second's worth: a signal finds some of the prefixes recorded, and some not.
write_long_prefixes() {
  cat >l.yaml <<'YAML'
name: l
threads: 1
network: {activation: relu, width: 16777216}
data: {source: sphere, samples: 32, dim: 8}
ntk: {prefixes: true, min_prefix: 131072}
YAML
}

@test "trace, diagonal and blocks are those of the whole matrix" {
  write_kernel
  for activation in softmax relu exp exp_normalized; do
    options="--json --precision f64 --set network.activation=$activation --set ntk.block=3"
    for matrix in full trace diagonal blocks; do
      expect 0 ntk k.yaml $options --set ntk.matrix=$matrix --out $activation/$matrix
      equal matrix "$(records get out matrix)" $matrix
      records keys out ntk id status width gram_norm infinite_distance form streamed ntk_seconds
    done
    equal 'full datasets' "$(held $activation/full/run.h5 | paste -sd,)" \
      '/eigenvalues f64 21,/gram f64 21x21,/gram_infinite f64 21x21'
    equal 'trace datasets' "$(held $activation/trace/run.h5 | paste -sd,)" \
      '/eigenvalues f64 7,/gram_trace f64 7x7,/gram_trace_infinite f64 7x7'
    equal 'diagonal datasets' "$(held $activation/diagonal/run.h5 | paste -sd,)" \
      '/gram_diagonal f64 21,/gram_diagonal_infinite f64 21'
    equal 'block datasets' "$(held $activation/blocks/run.h5 | grep -v infinite | paste -sd,)" \
      '/blocks/0_0 f64 9x9,/blocks/1_0 f64 9x9,/blocks/1_1 f64 9x9,/blocks/2_0 f64 3x9,/blocks/2_1 f64 3x9,/blocks/2_2 f64 3x3'
    equal 'blocks of the limit' "$(held $activation/blocks/run.h5 | grep infinite | paste -sd,)" \
      '/blocks_infinite/0_0 f64 3x3,/blocks_infinite/1_0 f64 3x3,/blocks_infinite/1_1 f64 3x3,/blocks_infinite/2_0 f64 1x3,/blocks_infinite/2_1 f64 1x3,/blocks_infinite/2_2 f64 1x1'
    "$PYTHON" - "$H5_LIST" $activation <<'PY'
import json, subprocess, sys
program, directory = sys.argv[1:3]
n, p, size = 7, 3, 21
def read(part, path):
    text = subprocess.run([program, "%s/%s/run.h5" % (directory, part), path], capture_output=True, text=True, check=True)
    return [float(line) for line in text.stdout.split()]
def point(part):
    return json.loads(open("%s/%s/points.jsonl" % (directory, part)).readline())
def norm(values):
    return sum(v * v for v in values) ** 0.5
def near(a, b, what):
    assert len(a) == len(b) and norm([x - y for x, y in zip(a, b)]) <= 1e-12 * norm(b), (what, a, b)
gram = read("full", "/gram")
limit = read("full", "/gram_infinite")
near(read("trace", "/gram_trace"),
     [sum(gram[(i + n * l) * size + j + n * l] for l in range(p)) for i in range(n) for j in range(n)], "trace")
near(read("diagonal", "/gram_diagonal"), [gram[a * size + a] for a in range(size)], "diagonal")
near(read("trace", "/gram_trace_infinite"), [p * limit[i * size + j] for i in range(n) for j in range(n)], "limit of the trace")
near(read("diagonal", "/gram_diagonal_infinite"), [limit[a * size + a] for a in range(size)], "limit of the diagonal")
assert abs(point("trace")["lambda_max_infinite"] / point("full")["lambda_max_infinite"] - p) < 1e-12
assembled = [None] * (size * size)
assembled_limit = [0.0] * (size * size)
for r in range(3):
    for c in range(r + 1):
        rows, columns = min(3, n - 3 * r), min(3, n - 3 * c)
        block, infinite = read("blocks", "/blocks/%d_%d" % (r, c)), read("blocks", "/blocks_infinite/%d_%d" % (r, c))
        for i in range(rows * p):
            for j in range(columns * p):
                a, b = 3 * r + i % rows + n * (i // rows), 3 * c + j % columns + n * (j // columns)
                assembled[a * size + b] = assembled[b * size + a] = block[i * columns * p + j]
                if i // rows == j // columns:
                    assembled_limit[a * size + b] = assembled_limit[b * size + a] = infinite[i % rows * columns + j % columns]
near(assembled, gram, "blocks")
near(assembled_limit, limit, "blocks of the limit")
# the figures are those of what was taken
distance = lambda values, of: norm([a - b for a, b in zip(values, of)]) / norm(of)
for part in ("full", "blocks"):
    near([point(part)["gram_norm"]], [norm(gram)], part)
    near([point(part)["infinite_distance"]], [distance(gram, limit)], part)
trace, diagonal = read("trace", "/gram_trace"), read("diagonal", "/gram_diagonal")
near([point("trace")["gram_norm"]], [norm(trace)], "trace")
near([point("trace")["infinite_distance"]], [distance(trace, read("trace", "/gram_trace_infinite"))], "trace")
near([point("diagonal")["gram_norm"]], [norm(diagonal)], "diagonal")
near([point("diagonal")["infinite_distance"]], [distance(diagonal, [limit[a * size + a] for a in range(size)])], "diagonal")
eigenvalues = read("trace", "/eigenvalues")
near([sum(eigenvalues)], [sum(trace[i * n + i] for i in range(n))], "sum of the eigenvalues")
assert eigenvalues == sorted(eigenvalues)
PY
  done
}

@test "spectra and symmetry are told where there is a square matrix" {
  write_kernel
  spectrum='lambda_min lambda_max condition lambda_min_error lambda_max_error psd_violation solver'
  for matrix in full trace; do
    expect 0 ntk k.yaml --json --precision f64 --set ntk.matrix=$matrix --out $matrix
    records keys out ntk $spectrum symmetry_violation
    for key in $spectrum; do records keys out ntk "${key}_infinite"; done
    equal solver "$(records get out solver)" dense
    equal 'psd violation' "$(records get out psd_violation)" 0
    "$PYTHON" - out <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))
assert 0 <= p["symmetry_violation"] < 1e-6, p
for suffix in ("", "_infinite"):
    assert 0 < p["lambda_min" + suffix] < p["lambda_max" + suffix], p
    assert 0 < p["lambda_min_error" + suffix] < 1e-10 * p["lambda_max" + suffix], p
    assert abs(p["condition" + suffix] * p["lambda_min" + suffix] - p["lambda_max" + suffix]) < 1e-9 * p["lambda_max" + suffix], p
PY
  done
  for matrix in diagonal blocks; do
    expect 0 ntk k.yaml --json --set ntk.matrix=$matrix --out $matrix
    lacks out '"(lambda_min|lambda_max|condition|solver|symmetry_violation|psd_violation)"'
  done
  expect 0 ntk k.yaml --json --set ntk.eigenvalues=false --out none
  records keys out ntk gram_norm infinite_distance symmetry_violation
  lacks out 'lambda|solver'
  # more rows than weights: the rest of the spectrum is zero up to rounding, and the record says how far below
  expect 0 ntk k.yaml --json --set network.width=2 --set network.activation=exp --precision f64 --out singular
  "$PYTHON" -c 'import json; p = json.load(open("out"))
assert abs(p["lambda_min"]) <= p["lambda_min_error"] + 1e-14 * p["lambda_max"] and 0 <= p["psd_violation"] < 1e-14, p'
}

@test "blocks: those of the pairs alone, in both triangles, under their ranges' names" {
  write_kernel
  expect 0 ntk k.yaml --quiet --precision f64 --set ntk.matrix=blocks --set ntk.block=3 --out all
  expect 0 ntk k.yaml --json --precision f64 --set ntk.matrix=blocks --set ntk.block=3 --set 'ntk.pairs=[2, 1, 1, 2]' --out two
  equal datasets "$(held two/run.h5 | paste -sd,)" \
    '/blocks/1_2 f64 9x3,/blocks/2_1 f64 3x9,/blocks_infinite/1_2 f64 3x1,/blocks_infinite/2_1 f64 1x3'
  h5 all/run.h5 /blocks/2_1 >wanted
  h5 two/run.h5 /blocks/2_1 | cmp - wanted
  h5 two/run.h5 /blocks/1_2 >transposed
  "$PYTHON" - out <<'PY'
import json, sys
below, above = ([float(line) for line in open(name)] for name in ("wanted", "transposed"))
size = sum(v * v for v in below) ** 0.5
assert all(abs(below[i * 9 + j] - above[j * 3 + i]) <= 1e-12 * size for i in range(3) for j in range(9))
point = json.load(open(sys.argv[1])) # the figures are those of the blocks that were asked for
assert abs(point["gram_norm"] - 2 ** 0.5 * size) <= 1e-12 * size, (point, size)
PY
  # a range longer than the samples is all of them
  expect 0 ntk k.yaml --quiet --precision f64 --set ntk.matrix=blocks --set ntk.infinite=false --out one
  equal datasets "$(held one/run.h5)" '/blocks/0_0 f64 21x21'
  # without a file (a sweep's points have none) the figures are the same
  expect 0 sweep k.yaml --json --precision f64 --set sweep.command=ntk --set ntk.matrix=blocks --set 'grid.ntk.block=[3, 512]' --out s
  equal norms "$(records get out gram_norm | "$PYTHON" -c 'a, b = (float(input()) for _ in "ab"); print(abs(a - b) < 1e-12 * b)')" True
}

@test "prefixes: the same network at half the width and so on, the rate, and the curve in run.h5" {
  write_kernel
  expect 0 ntk k.yaml --json --threads 1 --precision f64 --set ntk.prefixes=true --set ntk.min_prefix=8 --set save.weights=true --out run
  empty err
  equal ids "$(records get out id | tr '\n' ' ')" 'prefix=8 prefix=16 prefix=32 - '
  records keys out ntk_prefix id status width gram_norm infinite_distance lambda_min lambda_max symmetry_violation ntk_seconds
  lacks <(grep ntk_prefix out) 'infinite"'
  equal widths "$(records get out width | tr '\n' ' ')" '8 16 32 64 '
  records keys out ntk prefixes rate_exponent rate_factor rate_r_squared
  equal prefixes "$(records get out prefixes ntk)" 3
  equal curve "$(held run/run.h5 | grep '^/prefix' | paste -sd,)" \
    '/prefix/infinite_distance f64 4,/prefix/lambda_max f64 4,/prefix/lambda_min f64 4,/prefix/width i64 4'
  equal 'widths of the curve' "$(h5 run/run.h5 /prefix/width | tr '\n' ' ')" '8 16 32 64 '
  for key in infinite_distance lambda_min lambda_max; do
    h5 run/run.h5 /prefix/$key >curve
    records get out $key | cmp - curve
  done
  "$PYTHON" - out <<'PY' # the least-squares line through the logarithms
import json, math, sys
points = [json.loads(line) for line in open(sys.argv[1])]
x, y = [math.log(p["width"]) for p in points], [math.log(p["infinite_distance"]) for p in points]
mx, my = sum(x) / 4, sum(y) / 4
slope = sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)
assert abs(points[-1]["rate_exponent"] - slope) < 1e-12, (points[-1], slope)
PY
  # a prefix is the network of that width with the same seed, and its weights are the first of the whole's
  expect 0 ntk k.yaml --json --threads 1 --precision f64 --set network.width=16 --set save.weights=true --out narrow
  for key in gram_norm infinite_distance lambda_min lambda_max; do
    equal $key "$(records get run/points.jsonl $key ntk_prefix | sed -n 2p)" "$(records get out $key)"
  done
  h5 run/run.h5 /weights | awk 'NR % 64 >= 1 && NR % 64 <= 16' >first
  h5 narrow/run.h5 /weights | cmp - first
  # of the parts too
  for matrix in trace diagonal; do
    expect 0 ntk k.yaml --json --set ntk.matrix=$matrix --set ntk.prefixes=true --set ntk.min_prefix=16 --out $matrix
    equal ids "$(records get out id | tr '\n' ' ')" 'prefix=16 prefix=32 - '
    records keys out ntk rate_exponent
  done
  expect 0 ntk k.yaml --set ntk.prefixes=true --set ntk.min_prefix=16 --out table
  has out '^activation .* rate +seconds$'
}

@test "H of each prefix has a file of its own, and widths may be chosen" {
  write_kernel
  chosen='--set ntk.prefixes=true --set ntk.prefix_widths=[6,10,40] --precision f64 --threads 1'
  expect 0 ntk k.yaml --json $chosen --out run
  equal ids "$(records get out id | tr '\n' ' ')" 'prefix=6 prefix=10 prefix=40 - '
  equal widths "$(h5 run/run.h5 /prefix/width | tr '\n' ' ')" '6 10 40 64 '
  expect 0 ntk k.yaml --json --precision f64 --threads 1 --set network.width=10 --out ten
  equal 'H of a prefix' "$(h5 run/prefix_10.h5 /gram | md5sum)" "$(h5 ten/run.h5 /gram | md5sum)"
  equal 'files' "$(ls run | tr '\n' ' ')" "$(ls ten | cat - <(printf 'prefix_%s.h5\n' 6 10 40) | LC_ALL=C sort | tr '\n' ' ')"
  # a run cut behind a prefix writes the others' files only
  rm run/run.h5 run/prefix_10.h5 run/prefix_40.h5
  kept=$(stat -c %i run/prefix_6.h5)
  head -n 1 run/points.jsonl >first
  cp first run/points.jsonl
  expect 0 ntk k.yaml --json $chosen --out run --resume
  equal again "$(ls run/prefix_*.h5 | tr '\n' ' ')" 'run/prefix_10.h5 run/prefix_40.h5 run/prefix_6.h5 '
  equal "the first's file" "$(stat -c %i run/prefix_6.h5)" "$kept"
  expect 0 ntk k.yaml --quiet $chosen --set save.prefixes=false --set ntk.matrix=trace --out none
  equal none "$(ls none | grep -c prefix_ || true)" 0
  expect 0 ntk k.yaml --quiet $chosen --set ntk.matrix=diagonal --out diagonal
  has <(held diagonal/prefix_6.h5) '^/gram_diagonal f64 21$'
  for wrong in '[10, 6]' '[6, 6]' '[64]' '[100]'; do
    expect 2 ntk k.yaml --set ntk.prefixes=true --set "ntk.prefix_widths=$wrong" --out wrong
    one_line 'ntk.prefix_widths: .*ascending order below network.width, 64'
  done
  expect 2 ntk k.yaml --set ntk.prefixes=true --set 'ntk.prefix_widths=[6, 9]' --out wrong
  one_line 'ntk.prefix_widths: 9 is odd'
  expect 2 ntk k.yaml --set 'ntk.prefix_widths=[6]' --out wrong
  one_line 'ntk.prefix_widths: .*need ntk.prefixes: true'
}

@test "prefixes of odd, small and too small widths" {
  write_kernel
  expect 0 ntk k.yaml --quiet --set ntk.prefixes=true --set ntk.min_prefix=1 --set network.width=28 --out even
  # pairs of neurons: 14, 7 -> 6, 3 -> 2
  equal widths "$(h5 even/run.h5 /prefix/width | tr '\n' ' ')" '2 6 14 28 '
  expect 0 ntk k.yaml --quiet --set ntk.prefixes=true --set ntk.min_prefix=1 --set network.width=13 --set network.init=iid --out odd
  equal widths "$(h5 odd/run.h5 /prefix/width | tr '\n' ' ')" '1 3 6 13 '
  for options in '--set network.width=2' '--set ntk.min_prefix=33' '--set ntk.min_prefix=64' '--set ntk.min_prefix=65' ''; do
    rm -rf none
    expect 0 ntk k.yaml --json --set ntk.prefixes=true $options --out none
    equal lines "$(records lines out)" 1
    equal prefixes "$(records get out prefixes)" 0
    lacks out rate
    lacks <(held none/run.h5) prefix
  done
  expect 0 ntk k.yaml --json --set ntk.prefixes=true --set ntk.min_prefix=32 --out one
  equal ids "$(records get out id | tr '\n' ' ')" 'prefix=32 - '
  # nothing to be near to: no distance and no rate, but the prefixes are there
  expect 0 ntk k.yaml --json --set ntk.prefixes=true --set ntk.min_prefix=16 --set ntk.infinite=false --out free
  equal prefixes "$(records get out prefixes ntk)" 2
  lacks out 'rate|infinite'
}

@test "a prefix recorded is not taken again: cut behind any point, a run is resumed to the same" {
  write_kernel
  options='--threads 1 --set ntk.prefixes=true --set ntk.min_prefix=8'
  expect 0 ntk k.yaml --quiet $options --out whole
  records same whole/points.jsonl >whole.txt
  equal points "$(wc -l <whole.txt)" 4
  h5 whole/run.h5 >data.txt
  for kept in 0 1 2 3; do
    cp -r whole cut
    head -$kept whole/points.jsonl >cut/points.jsonl
    rm -f cut/run.h5
    expect 0 ntk k.yaml --json $options --out cut --resume
    equal 'run again' "$(records lines out)" $((4 - kept))
    records same cut/points.jsonl | cmp - whole.txt
    h5 cut/run.h5 | cmp - data.txt
    rm -r cut
  done
  expect 0 ntk k.yaml --json $options --out whole --resume
  equal 'the point' "$(records get out id)" -
  records same whole/points.jsonl | cmp - whole.txt
}

@test "signals between prefixes: those finished are kept, --resume runs exactly the rest" {
  write_long_prefixes
  expect 0 ntk l.yaml --backend cpu --quiet --out whole
  equal points "$(records lines whole/points.jsonl)" 8
  for signal in INT KILL; do
    env --default-signal=INT "$SOFTNTK" ntk l.yaml --backend cpu --quiet --out $signal >bg.out 2>bg.err </dev/null 3>&- &
    started=$!
    wait_for_lines $signal/points.jsonl 4
    kill -$signal "$started"
    rc=0
    wait "$started" || rc=$?
    [ $signal = KILL ] || has bg.err 'interrupted; what was finished is in INT, and --resume goes on'
    equal "exit code" "$rc" $([ $signal = INT ] && echo 75 || echo 137)
    absent $signal/run.h5
    finished=$(records lines $signal/points.jsonl)
    [ "$finished" -lt 8 ] || fail "the run was over before the signal"
    cp $signal/points.jsonl kept
    expect 0 ntk l.yaml --backend cpu --json --resume --out $signal
    equal 'run again' "$(records lines out)" $((8 - finished))
    head -"$finished" $signal/points.jsonl | cmp - kept
    records same whole/points.jsonl >whole.txt
    records same $signal/points.jsonl | cmp - whole.txt
    h5 whole/run.h5 >data.txt
    h5 $signal/run.h5 | cmp - data.txt
  done
}

@test "sweep.command ntk with prefixes: each point its own, laws of the whole networks alone" {
  write_kernel
  options='--threads 1 --set sweep.command=ntk --set ntk.prefixes=true --set ntk.min_prefix=16'
  grid='grid.network.width=[32, 64, 128]'
  expect 0 sweep k.yaml --json $options --set "$grid" --out s
  equal points "$(records lines out ntk)" 3
  equal prefixes "$(records get out id ntk_prefix | tr '\n' ' ')" \
    'network.width=32,prefix=16 network.width=64,prefix=16 network.width=64,prefix=32 network.width=128,prefix=16 network.width=128,prefix=32 network.width=128,prefix=64 '
  equal fits "$(records lines out sweep_fit)" 1
  equal 'points of the fit' "$(records get out points sweep_fit)" 3
  records ids s/points.jsonl >/dev/null
  records same s/points.jsonl >whole.txt
  # cut behind a prefix of the second point
  head -4 s/points.jsonl >kept
  cp kept s/points.jsonl
  expect 0 sweep k.yaml --json $options --set "$grid" --out s --resume
  equal 'run again' "$(grep -vc sweep_fit out)" 5
  records same s/points.jsonl | cmp - whole.txt
  expect 0 sweep k.yaml --quiet $options --set "$grid" --out t --shard 0/2 --resume
  expect 0 sweep k.yaml --quiet $options --set "$grid" --out t --shard 1/2 --resume
  records same t/points.*.jsonl | sort >parts.txt
  sort whole.txt | cmp - parts.txt
}

@test "method infinite: the limit alone, also where a width is given; method finite needs one" {
  write_kernel
  expect 0 ntk k.yaml --json --set ntk.method=infinite --out limit
  records keys out ntk lambda_min_infinite lambda_max_infinite lambda_min_error_infinite solver_infinite
  lacks out '"(width|form|matrix|gram_norm|lambda_min|infinite_distance)"'
  equal datasets "$(held limit/run.h5)" '/gram_infinite f64 21x21'
  expect 0 ntk k.yaml --quiet --out whole
  h5 limit/run.h5 /gram_infinite >limit.txt
  h5 whole/run.h5 /gram_infinite | cmp - limit.txt
  sed 's/, width: 64//' k.yaml >n.yaml
  expect 0 ntk n.yaml --quiet --out none
  h5 none/run.h5 /gram_infinite | cmp - limit.txt
  expect 2 ntk n.yaml --set ntk.method=finite --out refused
  one_line 'n\.yaml: network\.width: is missing'
  absent refused
  # held-out samples would take no part
  expect 2 ntk k.yaml --quiet --set data.test_samples=3 --out refused
  one_line 'data\.test_samples: has no effect in ntk'
  absent refused
}

@test "exp_normalized: the limit of softmax, and its own kernel" {
  write_kernel
  for activation in softmax exp_normalized; do
    expect 0 ntk k.yaml --json --precision f64 --set network.activation=$activation --out $activation
    equal activation "$(records get out activation)" $activation
    h5 $activation/run.h5 /gram_infinite >$activation.limit
    h5 $activation/run.h5 /gram >$activation.gram
  done
  cmp softmax.limit exp_normalized.limit
  if cmp -s softmax.gram exp_normalized.gram; then fail "the kernel of exp_normalized is that of softmax"; fi
  # a wide one nears the limit
  expect 0 ntk --backend cpu k.yaml --json --set network.activation=exp_normalized --set network.width=65536 --out wide
  "$PYTHON" -c "assert $(records get out infinite_distance) < 0.1"
}

@test "solver lanczos gives the two ends that dense gives, and no spectrum" {
  write_kernel
  # orders below and above the one from which Lanczos iterates
  for samples in 7 40; do
    for matrix in full trace; do
      options="--json --precision f64 --set data.samples=$samples --set data.dim=12 --set network.width=256 --set ntk.matrix=$matrix"
      for solver in dense lanczos auto; do
        expect 0 ntk k.yaml $options --set ntk.solver=$solver --out $samples/$matrix/$solver
        cp out $solver.point
      done
      equal solver "$(records get lanczos.point solver) $(records get lanczos.point solver_infinite)" 'lanczos lanczos'
      equal solver "$(records get auto.point solver)" dense
      has <(held $samples/$matrix/dense/run.h5) '^/eigenvalues '
      lacks <(held $samples/$matrix/lanczos/run.h5) '^/eigenvalues '
      "$PYTHON" - dense.point lanczos.point <<'PY'
import json, sys
dense, lanczos = (json.load(open(name)) for name in sys.argv[1:3])
for suffix in ("", "_infinite"):
    for end in ("lambda_min", "lambda_max"):
        errors = dense[end + "_error" + suffix] + lanczos[end + "_error" + suffix]
        assert 0 < lanczos[end + "_error" + suffix] < 1e-11 * dense["lambda_max" + suffix], lanczos
        assert abs(dense[end + suffix] - lanczos[end + suffix]) <= errors, (end, dense, lanczos)
PY
    done
  done
  # singular: an end at zero
  expect 0 ntk k.yaml --json --precision f64 --set data.samples=40 --set network.width=4 --set ntk.solver=lanczos --out singular
  "$PYTHON" -c 'import json; p = json.load(open("out")); assert abs(p["lambda_min"]) < 1e-12 * p["lambda_max"], p'
}

@test "refused before anything runs: exit 2, the configuration's line, no run" {
  write_kernel
  try() { # PATTERN OPTION...
    local pattern=$1
    shift
    expect 2 ntk k.yaml --out run "$@"
    one_line "$pattern"
    empty out
    absent run
    expect 2 ntk k.yaml --dry-run "$@"
    one_line "$pattern"
  }
  try '--set: ntk\.pairs: pairs belong to ntk\.matrix blocks' --set 'ntk.pairs=[0, 0]'
  try '--set: ntk\.pairs: pairs belong to ntk\.matrix blocks' --set 'ntk.pairs=[0, 0]' --set ntk.matrix=trace
  blocks='--set ntk.matrix=blocks --set ntk.block=3'
  try '--set: ntk\.pairs: 3 numbers do not make pairs' $blocks --set 'ntk.pairs=[0, 0, 1]'
  try '--set: ntk\.pairs: there is no range 3: 7 samples make ranges 0 to 2 of 3' $blocks --set 'ntk.pairs=[0, 0, 3, 0]'
  try '--set: ntk\.pairs: block \(1, 0\) is there twice' $blocks --set 'ntk.pairs=[1, 0, 0, 0, 1, 0]'
  try '--set: ntk\.pairs: -1 is out of range' $blocks --set 'ntk.pairs=[-1, 0]'
  try '--set: ntk\.block: 0 is out of range' --set ntk.block=0
  try '--set: ntk\.prefixes: blocks are taken at one width' $blocks --set ntk.prefixes=true
  for matrix in trace diagonal blocks; do
    try '--set: ntk\.matrix: parts are taken of a finite network' --set ntk.matrix=$matrix --set ntk.method=infinite
  done
  try '--set: ntk\.prefixes: prefixes need network\.width' --set ntk.prefixes=true --set ntk.method=infinite
  records npy w.npy 4 2 '<f8' 0.5 -1 2 0.25 0 1 -0.125 3
  records npy s.npy 3 2 '<i8' 1 -1 1 1 -1 1
  given='--set network.weights=w.npy --set network.signs=s.npy --set network.width=2'
  try '--set: network\.weights: weights without their signs are another network; give network\.signs' --set network.weights=w.npy \
    --set network.width=2
  try '--set: ntk\.prefixes: prefixes are drawn, not loaded' --set ntk.prefixes=true $given
  try '--set: network\.weights: H at infinite width is that of Gaussian weights' --set ntk.method=infinite $given
  records npy a.npy 3 64 '<i8' $(yes 1 | head -192)
  try '--set: ntk\.prefixes: prefixes are drawn, not loaded' --set ntk.prefixes=true --set network.signs=a.npy --set network.init=iid
  try '--set: ntk\.solver: ' --set ntk.solver=qr
  try '--set: ntk\.matrix: ' --set ntk.matrix=half
  try '--set: ntk\.min_prefix: 0 is out of range' --set ntk.min_prefix=0
}

@test "a kernel that overflows: exit 5, recorded with its prefixes, without figures" {
  write_kernel
  options='--set network.activation=exp --set network.sigma=400 --set ntk.prefixes=true --set ntk.min_prefix=16'
  expect 5 ntk k.yaml --json $options --out limit
  one_line 'the infinite-width kernel overflows'
  equal norm "$(records get out gram_norm)" null
  lacks out 'nan|NaN|Infinity|infinite_distance'
  expect 5 ntk k.yaml --json $options --set ntk.infinite=false --out finite
  one_line 'not finite; use a smaller sigma'
  equal statuses "$(records get out status | uniq -c | tr -s ' \n' ' ')" ' 3 failed '
  equal norms "$(records get out gram_norm | sort -u)" null
  absent finite/run.h5
  expect 5 ntk k.yaml --json $options --set ntk.infinite=false --out finite --resume
  one_line 'not finite; use a smaller sigma'
  equal lines "$(records lines finite/points.jsonl)" 3
}

@test "parts need less memory than the whole, and too little is exit 4" {
  write_kernel
  size='--set data.samples=400'
  for matrix in full trace diagonal blocks; do
    expect 0 ntk k.yaml --dry-run --json $size --set ntk.block=16 --set ntk.matrix=$matrix --set ntk.infinite=false
    records get out memory_bytes >$matrix.bytes
    if [ $matrix != full ]; then
      [ "$(cat $matrix.bytes)" -lt "$(cat full.bytes)" ] || fail "$matrix: $(cat $matrix.bytes), full: $(cat full.bytes)"
    fi
  done
  expect 4 ntk k.yaml $size --memory-limit 1M --out run
  one_line 'k\.yaml:2:[0-9]+: network\.width: '
  absent run
}
