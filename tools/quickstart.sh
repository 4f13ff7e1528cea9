#!/bin/sh
# Installs what is missing, builds, and runs the width-scaling benchmark on synthetic and on real data. SPDX-License-Identifier: MIT
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
# shellcheck disable=SC2086
require_packages $BUILD_PACKAGES

# Compiling for every GPU takes minutes: only where there is one.
cuda=OFF
if [ -e /dev/nvidia0 ]; then cuda=AUTO; fi
cmake --preset release -DSNTK_BUILD_TESTS=OFF -DSNTK_WERROR=OFF -DSNTK_CUDA="$cuda" >build-quickstart.log.tmp 2>&1 &&
  cmake --build --preset release >>build-quickstart.log.tmp 2>&1 || {
  cat build-quickstart.log.tmp >&2
  echo "The build failed; its output is above." >&2
  exit 1
}
rm -f build-quickstart.log.tmp

# Threads that wait by spinning take the processors from whatever else runs on them.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
softntk=build/release/softntk
"$softntk" info
for config in quickstart digits; do
  out=runs/$config
  # A finished run is shown again rather than written over; remove its folder to start anew.
  echo
  echo "softntk width configs/$config.yaml    (files in $out)"
  "$softntk" width "configs/$config.yaml" --out "$out" --resume
done
