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

step "the cuda module beside the installed library, whatever the path that the program was started by"
# A module of another version: the refusal names it, so it was found.
printf '%s\n' 'const char *sntk_cuda_module_version(void) { return "0.0.0-planted"; }' \
  'const void *sntk_cuda_module(void) { return 0; }' >module.c
mkdir -p elsewhere planted links
"$cc" -shared -fPIC module.c -o planted/libsoftntk_cuda.so
ln -s "$prefix/bin/softntk" links/softntk
module=${library%/*}/libsoftntk_cuda.so
[ ! -e "$module" ] || mv "$module" "$module.kept"
finds() { # FOLDER COMMAND...: exit 3 that names the planted module's version
  local folder=$1 text
  shift
  text=$(cd "$folder" && "$@" info --backend cuda 2>&1 >"$work/found") && fail "$*: a planted module was taken"
  case $text in *0.0.0-planted*) ;; *) return 1 ;; esac
}
# What lies in the working directory is not run, by the program's or the loader's path.
PATH=$prefix/bin:$PATH finds planted softntk && fail "a module in the working directory was opened"
cp planted/libsoftntk_cuda.so "$module"
PATH=$prefix/bin:$PATH finds elsewhere softntk || fail "the module is not found from a program on the PATH"
PATH=../prefix/bin:$PATH finds elsewhere softntk || fail "the module is not found from a program on a relative PATH"
finds elsewhere "$work/links/softntk" || fail "the module is not found from a program behind a link"
(exec -a other "$prefix/bin/softntk" info --backend cuda) >found 2>&1 || grep -q planted found ||
  fail "the module is not found from a program of another argv[0]"

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

step "the lines that the example gives, as they stand"
cp "$source/tests/example/train.c" train.c
sed -n 's/^ \*   \(cc .*\)/\1/p' train.c >line
[ -s line ] || fail "the example has no line to compile it by"
env -u LD_LIBRARY_PATH PATH="$work/tools:$PATH" bash -euc "$(mkdir -p tools && ln -sf "$(command -v "$cc")" tools/cc && cat line)" >example.out ||
  fail "the example's own line does not work: $(cat line)"
check_example cat example.out

step "the cuda module beside the library, from a program of its user"
printf '%s\n' '#include <softntk/softntk.h>' '#include <stdio.h>' \
  'int main(void) {' \
  '  sntk_context *ctx;' \
  '  sntk_context_options options = SNTK_CONTEXT_OPTIONS_INIT;' \
  '  options.backend = "cuda";' \
  '  if (sntk_context_create(&ctx) != SNTK_OK) return 1;' \
  '  const sntk_status status = sntk_context_open(ctx, &options);' \
  '  printf("%s\n", sntk_context_error(ctx));' \
  '  sntk_context_free(ctx);' \
  '  return status != SNTK_ERR_BACKEND;' \
  '}' >user.c
"$cc" -std=c11 user.c "${flags[@]}" -o user
(cd elsewhere && LD_LIBRARY_PATH=${library%/*} ../user) | grep -q planted || fail "the library does not find its module"
# a relative path of the loader's, which is not that of the working directory any more
(LD_LIBRARY_PATH=$(realpath --relative-to=. "${library%/*}") ./user) | grep -q planted ||
  fail "the library does not find its module by a relative path"
rm "$module"
(cd planted && LD_LIBRARY_PATH=${library%/*} ../user) | grep -q planted && fail "the library opened a module in the working directory"
[ ! -e "$module.kept" ] || mv "$module.kept" "$module"

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
