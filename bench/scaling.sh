#!/bin/sh
# How a step's time grows with n, d and m, one at a time over four decades: a markdown table on standard output. Linear growth shows as a
# constant share of the bound, which grows so (in d beside the exponential, and not where memory binds: n of a few). SPDX-License-Identifier: MIT
#
#     bench/scaling.sh [PROGRAM] [THREADS]        default build/release/softntk, 2
set -eu
program=${1:-build/release/softntk} threads=${2:-2}

row() { # LABEL N D M
  "$program" bench step --samples "$2" --dim "$3" --width "$4" --threads "$threads" --json |
    sed 's/.*"median_s":\([0-9.e+-]*\),"q1_s":\([0-9.e+-]*\),"q3_s":\([0-9.e+-]*\).*"bound_share":\([0-9.e+-]*\).*/\1 \2 \3 \4/' |
    awk -v label="$1" -v n="$2" -v d="$3" -v m="$4" '{
      printf "| %s | %d | %d | %d | %.4g | %.4g-%.4g | %.3g | %.0f%% |\n", label, n, d, m, 1e3 * $1, 1e3 * $2, 1e3 * $3, 1e12 * $1 / (n * d * m), 100 * $4 }'
}

echo "| grows | n | d | m | median ms | quartiles | ps per n d m | share of bound |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
for n in 1 10 100 1000 10000; do row n $n 32 65536; done
for d in 1 10 100 1000 10000; do row d 128 $d 8192; done
for m in 1000 10000 100000 1000000 10000000; do row m 64 8 $m; done
