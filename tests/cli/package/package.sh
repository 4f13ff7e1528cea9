#!/usr/bin/env bash
# Installs the build into a temporary prefix and uses it as a stranger would: the program, the library found by CMake
# and by pkg-config, and the names that the library exports. SPDX-License-Identifier: MIT
#
#   package.sh SOURCE BUILD CONFIG CMAKE CC
set -euo pipefail

source=$1 build=$2 config=$3 cmake=$4 cc=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() {
  echo "package: $*" >&2
  exit 1
}

step() { echo "== $*"; }

# The example prints its figures from a run that converged.
check_example() {
  local text
  text=$("$@")
  echo "$text"
  grep -q '^softntk [0-9.]* on ' <<<"$text" || fail "the example does not say what it runs on"
  grep -q 'lambda_min [0-9]' <<<"$text" || fail "the example has no spectrum"
  grep -q '(converged)' <<<"$text" || fail "the example did not converge"
}

step "install"
"$cmake" --install "$build" --config "$config" --prefix "$prefix" >"$work/install.log" || {
  cat "$work/install.log"
  fail "cmake --install failed"
}
pc=$(find "$prefix" -name softntk.pc)
library=$(find "$prefix" -name 'libsoftntk.so')
[ -n "$pc" ] || fail "softntk.pc is not installed"
[ -n "$library" ] || fail "libsoftntk.so is not installed (a static build?)"
[ -f "$prefix/include/softntk/version.h" ] || fail "softntk/version.h is not installed"
if grep -rIl --exclude='*.log' -e "$build" "$prefix/include" "$(dirname "$pc")" "$(dirname "$library")/cmake"; then
  fail "the files above name the build folder"
fi

step "the installed program"
cd "$work"
"$prefix/bin/softntk" --version
"$prefix/bin/softntk" info --quiet
printf '%s\n' 'network: {activation: softmax, width: 64}' 'data: {source: sphere, samples: 4, dim: 3}' >c.yaml
"$prefix/bin/softntk" train c.yaml --out run
[ -f run/run.h5 ] || fail "the installed program left no run.h5"
[ -f "$prefix/share/softntk/configs/data/digits.csv.gz" ] || fail "the configurations' data are not installed"

step "find_package"
"$cmake" -G Ninja -S "$source/tests/cli/package" -B "$work/by_cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
  -DSOFTNTK_EXAMPLES="$source/tests/example" >"$work/cmake.log" 2>&1 || {
  cat "$work/cmake.log"
  fail "find_package(softntk) does not work"
}
"$cmake" --build "$work/by_cmake" >>"$work/cmake.log" 2>&1 || {
  cat "$work/cmake.log"
  fail "the example does not build by find_package"
}
check_example "$work/by_cmake/train"

step "pkg-config"
export PKG_CONFIG_PATH=${pc%/*}
read -ra flags <<<"$(pkg-config --cflags --libs softntk)"
"$cc" -std=c11 -Wall -Wextra -pedantic -Werror "$source/tests/example/train.c" "${flags[@]}" -o "$work/by_pkg_config"
LD_LIBRARY_PATH=${library%/*} check_example "$work/by_pkg_config"

step "exported names"
nm -D --defined-only "$library" | awk '{ print $NF }' | sort -u >"$work/names"
grep -q '^sntk_train$' "$work/names" || fail "libsoftntk.so does not export sntk_train"
if grep -v '^sntk_' "$work/names"; then fail "libsoftntk.so exports the names above, which do not begin with sntk_"; fi
# What the public headers do not declare must be hidden: internals carry the same prefix.
cat "$prefix"/include/softntk/*.h | grep -Eo '\bsntk_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u >"$work/declared"
if comm -23 "$work/names" "$work/declared" | grep .; then
  fail "libsoftntk.so exports the names above, which no public header declares"
fi
echo "$(wc -l <"$work/names") names"
