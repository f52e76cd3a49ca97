#!/usr/bin/env bash
# Installs what the tests need of a Debian system: for windows, a virtual X server and the libraries Qt and OpenGL load;
# for files, other programs of MRI to compare with, without which some tests are skipped.
# Does nothing where everything is there; outside Debian, or without root, it says what is missing, and fails if a window
# could not open.
set -euo pipefail

if [[ "$(uname -s)" != Linux ]]; then
    exit 0 # Qt's wheels bring all they need elsewhere.
fi

# Shared library, and the package that brings it.
libraries=(
    libdbus-1.so.3=libdbus-1-3
    libEGL.so.1=libegl1
    libfontconfig.so.1=libfontconfig1
    libGL.so.1=libgl1
    libglib-2.0.so.0=libglib2.0-0
    libOpenGL.so.0=libopengl0
    libxcb-cursor.so.0=libxcb-cursor0
    libxcb-icccm.so.4=libxcb-icccm4
    libxcb-image.so.0=libxcb-image0
    libxcb-keysyms.so.1=libxcb-keysyms1
    libxcb-randr.so.0=libxcb-randr0
    libxcb-render-util.so.0=libxcb-render-util0
    libxcb-shape.so.0=libxcb-shape0
    libxcb-xkb.so.1=libxcb-xkb1
    libxkbcommon-x11.so.0=libxkbcommon-x11-0
)

missing=()
command -v Xvfb >/dev/null || missing+=(xvfb)
known="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)"
for pair in "${libraries[@]}"; do
    [[ "$known" == *"${pair%%=*}"* ]] || missing+=("${pair##*=}")
done
needed=${#missing[@]}
command -v bart >/dev/null || missing+=(bart)
command -v ismrmrd_generate_cartesian_shepp_logan >/dev/null || missing+=(ismrmrd-tools)
if ((${#missing[@]} == 0)); then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "Missing system packages, by their Debian names: ${missing[*]}. Install them with your package manager." >&2
    exit $((needed > 0))
fi
if ((EUID != 0)); then
    echo "Missing system packages. As root run: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit $((needed > 0))
fi
echo "Installing system packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
