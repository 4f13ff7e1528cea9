#!/bin/sh
# Installs what is missing, builds, and runs the quick tests: on the host, then those of the cuda backend, emulated. SPDX-License-Identifier: MIT
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
# shellcheck disable=SC2086
require_packages $BUILD_PACKAGES $TEST_PACKAGES

cmake --preset release -DSNTK_BUILD_TESTS=ON -DSNTK_CUDA=OFF
cmake --build --preset release
ctest --preset release -L quick "$@"

cmake --preset emulate
cmake --build --preset emulate
ctest --preset emulate -L emulated -L quick "$@"
