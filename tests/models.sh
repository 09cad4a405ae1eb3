#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the models of the rings and of what workers share, under loom. They need a build of their own, since
# loom takes the place of the standard library's atomics: optimised, as they try very many interleavings, but
# without what makes a release slow to build.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=none
$cargo test --release --locked -p sluice-ring --test loom
$cargo test --release --locked -p sluice-mem --lib models
