#!/usr/bin/env bash
# Builds what is for hosts that are clients for Windows, with its tests, and runs those under Wine
# that need nothing that Wine lacks. For macOS, for which there is neither a linker nor a machine
# here, it checks the same without building it.
#
# Usage: tests/deploy/other_systems.sh
#
# The standard library of either is built from source, by the compiler that Debian keeps up to date
# for its browsers: Rust's own builds of it are in no package registry. What is fetched and built
# lies outside of the tree, in $OTHER_SYSTEMS. It needs Debian 12, and is skipped elsewhere, which
# it says; where CI is set, it fails then.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${OTHER_SYSTEMS:-${XDG_CACHE_HOME:-$HOME/.cache}/client-failover/other-systems}
ours=(wire client children operator conformance cli)

skip() {
  echo "other systems: skipped: $*"
  [[ -z ${CI:-} ]] || exit 1
  exit 0
}
step() { printf '\n-- %s (after %s s)\n' "$*" "$SECONDS"; }

for tool in apt-get cargo python3; do command -v "$tool" >/dev/null || skip "there is no $tool"; done
install() {
  [[ $(id -u) == 0 ]] || skip "there is no $1 (Debian: ${*:2})"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null
}
command -v x86_64-w64-mingw32-gcc >/dev/null || install x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64-posix
wine=$(command -v wine64 || ls /usr/lib/wine/wine64 2>/dev/null || true)
if [[ -z $wine ]]; then
  install wine64 wine64
  wine=$(command -v wine64 || ls /usr/lib/wine/wine64)
fi

# The compiler and the source of its standard library, beside the compiler of this machine.
rust=$cache/rust
if [[ ! -e $rust/complete ]]; then
  step "a compiler with the source of its standard library"
  rm -rf "$rust"
  mkdir -p "$rust/debs"
  apt-cache show rustc-web >/dev/null 2>&1 || skip "this is no Debian with rustc-web"
  needs() { apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)$/\1/p"; }
  std=$(needs libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')
  packages=(rustc-web rust-web-src libstd-rust-web-dev "$std" "$(needs "$std" 'libllvm[0-9]*')")
  (cd "$rust/debs" && apt-get download -qq "${packages[@]}" 2>/dev/null)
  for package in "$rust"/debs/*.deb; do
    # Of the source only the library.
    dpkg-deb --fsys-tarfile "$package" |
      tar -x -C "$rust" --exclude='./usr/src/rustc-*/compiler' --exclude='./usr/src/rustc-*/src' \
        --exclude='./usr/share'
  done
  rm -r "$rust/debs"
  touch "$rust/complete"
fi
# What compiles C for macOS, and a cargo that knows how to ask it.
if [[ ! -x $cache/zig/bin/cargo-zigbuild ]]; then
  step "tools from PyPI"
  python3 -m venv "$cache/zig"
  "$cache/zig/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 cargo-zigbuild==0.24.0
fi

export RUSTC=$rust/usr/bin/rustc LD_LIBRARY_PATH=$rust/usr/lib/x86_64-linux-gnu
# It builds a standard library, and its cargo is that of this machine.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$cache/target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
# What is optimised is not what is tried, and takes its time.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
packages=()
for name in "${ours[@]}"; do packages+=(--package "client-failover-$name"); done

step "macOS: a check of all but the agent, with its tests"
PATH=$cache/zig/bin:$PATH CARGO_ZIGBUILD_ZIG_PATH=$cache/zig/bin/python-zig \
  cargo-zigbuild check --locked -Zbuild-std --target aarch64-apple-darwin --all-targets "${packages[@]}"

step "Windows: everything is built, with its tests"
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
export AWS_LC_SYS_PREBUILT_NASM=1
windows=(--locked -Zbuild-std --target x86_64-pc-windows-gnu)
cargo test --release "${windows[@]}" "${packages[@]}" --package client-failover-agent --lib --bins --tests --no-run

step "Windows: tests under Wine"
export WINEPREFIX=$cache/wine WINEDEBUG=-all DISPLAY=
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="timeout 120 $wine"
# Wine 8 lacks the library that Rust has its random numbers from. This stands in for it.
mkdir -p "$cache/stand-in"
cat >"$cache/stand-in/random.c" <<'C'
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
  return SystemFunction036(data, (ULONG)size);
}
C
x86_64-w64-mingw32-gcc -shared -o "$cache/stand-in/bcryptprimitives.dll" "$cache/stand-in/random.c" -ladvapi32
WINEPATH="Z:$(tr / '\\' <<<"$cache/stand-in")"
export WINEPATH
# Not those of the client and of the agent: Wine 8 lacks the clock that they go by.
tried=()
for name in wire children operator cli; do tried+=(--package "client-failover-$name"); done
cargo test --release "${windows[@]}" "${tried[@]}" --lib

step "Windows: the program, as docs/platforms.md has it"
mapfile -t command < <(grep -o '^cargo build .*client-failover-cli$' docs/platforms.md | tr ' ' '\n')
[[ ${#command[@]} -gt 2 ]]
"${command[@]}" "${windows[@]}"
program=$CARGO_TARGET_DIR/x86_64-pc-windows-gnu/release/client-failover-cli.exe
timeout 120 "$wine" "$program" --version
step "done: $(stat -c %s "$program") bytes"
