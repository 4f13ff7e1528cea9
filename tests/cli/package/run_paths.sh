#!/usr/bin/env bash
# No program or library looks for its libraries in the working directory: every element of a run path, in the build tree
# and installed, is absolute or begins with $ORIGIN. SPDX-License-Identifier: MIT
#
#   run_paths.sh BUILD CONFIG CMAKE
# Exit 77 where readelf is not there.
set -euo pipefail

build=$1 config=$2 cmake=$3
command -v readelf >/dev/null || {
  echo "run_paths: readelf (binutils) is not there: nothing is checked"
  exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --config "$config" --prefix "$work/prefix" >"$work/install.log" || {
  cat "$work/install.log"
  exit 1
}

# The bad elements of the run path that readelf prints, as "FILE: [PATH]". An empty element is the working directory.
bad_paths() { # FILE
  readelf -dW "$1" 2>/dev/null | sed -En 's/.*\((RPATH|RUNPATH)\).*\[(.*)\]$/\2/p' | while IFS= read -r path; do
    rest=$path:
    while [ -n "$rest" ]; do
      element=${rest%%:*}
      rest=${rest#*:}
      case $element in
        /* | '$ORIGIN' | '$ORIGIN/'* | '${ORIGIN}' | '${ORIGIN}/'*) ;;
        *) echo "$1: [$path]" && break ;;
      esac
    done
  done
}

# The check itself: what it must find and what it must let pass.
printf 'int main(void) { return 0; }\n' >"$work/main.c"
for path in /a: :/a /a::/b relative . '$ORIGINAL'; do
  "${CC:-cc}" "$work/main.c" -o "$work/self" "-Wl,--enable-new-dtags,-rpath,$path"
  [ -n "$(bad_paths "$work/self")" ] || {
    echo "run_paths: the run path '$path' is not found to be bad" >&2
    exit 1
  }
done
"${CC:-cc}" "$work/main.c" -o "$work/self" '-Wl,-rpath,/a:$ORIGIN/../lib:$ORIGIN'
[ -z "$(bad_paths "$work/self")" ] || {
  echo "run_paths: a good run path is found to be bad" >&2
  exit 1
}

count=0 bad=
while IFS= read -r -d '' file; do
  readelf -h "$file" >/dev/null 2>&1 || continue
  count=$((count + 1))
  bad+=$(bad_paths "$file")
done < <(find "$build" "$work/prefix" -type f \( -perm -u+x -o -name '*.so*' \) -print0)
[ "$count" -ge 3 ] || {
  echo "run_paths: only $count programs and libraries were found" >&2
  exit 1
}
[ -z "$bad" ] || {
  echo "run_paths: a program or library that looks in the working directory: $bad" >&2
  exit 1
}
echo "$count programs and libraries"
