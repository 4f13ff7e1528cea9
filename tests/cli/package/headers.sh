#!/usr/bin/env bash
# Every public header compiles alone, twice in one file, without a warning. SPDX-License-Identifier: MIT
#
#   headers.sh LANGUAGE STANDARD COMPILER INCLUDE...   (LANGUAGE: c or c++; the first INCLUDE has the headers)
# Exit 77 where the compiler is not there.
set -euo pipefail

language=$1 standard=$2 compiler=$3
shift 3
command -v "$compiler" >/dev/null || {
  echo "headers: no $language compiler ($compiler): nothing is checked"
  exit 77
}
includes=()
for folder in "$@"; do includes+=(-I "$folder"); done
names=()
for folder in "$@"; do
  for header in "$folder"/softntk/*.h; do [ -e "$header" ] && names+=("${header##*/}"); done
done
[ ${#names[@]} -gt 0 ] || {
  echo "headers: no header below $*" >&2
  exit 1
}
for name in "${names[@]}"; do
  printf '#include <softntk/%s>\n#include <softntk/%s>\nint main(void) { return 0; }\n' "$name" "$name" |
    "$compiler" -x "$language" -std="$standard" -Wall -Wextra -pedantic -Werror -fsyntax-only "${includes[@]}" - ||
    {
      echo "headers: softntk/$name does not stand alone in $standard" >&2
      exit 1
    }
done
echo "${#names[@]} headers stand alone in $standard"
