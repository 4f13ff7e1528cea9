# What softntk needs from Debian, and how it gets there. Sourced by the other scripts; SPDX-License-Identifier: MIT

BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libopenblas-openmp-dev libarpack2-dev librandom123-dev libyaml-dev libhdf5-dev libjansson-dev zlib1g-dev"
TEST_PACKAGES="g++ libcmocka-dev bats python3 python3-numpy python3-h5py"

# require_packages NAME...: installs those that are missing, or says exactly which they are and stops.
require_packages() {
  missing=""
  if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is not a Debian system; softntk needs what these Debian packages hold: $*" >&2
    return 0 # CMake names what it does not find
  fi
  for package in "$@"; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
      "install ok installed") ;;
      *) missing="$missing $package" ;;
    esac
  done
  [ -z "$missing" ] && return 0
  if [ "$(id -u)" = 0 ]; then
    as_root=""
  elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo true; }; }; then
    as_root="sudo"
  else
    echo "Missing packages:$missing" >&2
    echo "Without the right to install them nothing was changed. Ask for: apt-get install$missing" >&2
    exit 2
  fi
  echo "Installing:$missing"
  # shellcheck disable=SC2086  # a list of names, and an empty word for root
  $as_root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing" >/dev/null || {
    echo "apt-get could not install:$missing" >&2
    exit 2
  }
}
