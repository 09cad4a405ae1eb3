#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Links programs dynamically, as DPDK's drivers are plugins that a static program cannot load: cargo's RUSTC_WRAPPER.
# .cargo/config.toml makes every program static; other flags would have cargo compile each dependency again, and
# libraries are the same for both. `cargo build` with RUSTFLAGS='-C target-feature=-crt-static' does without this.
#
# usage: RUSTC_WRAPPER=dataplane/dpdk/rustc.sh cargo build -p sluiced --features dpdk
program=
for word in "$@"; do
    case $word in
    bin | --test) program=1 ;;
    esac
done
if [ "$program" ]; then
    # Around again, without the one word and the -C before it.
    left=$#
    held=
    while [ "$left" -gt 0 ]; do
        word=$1
        shift
        left=$((left - 1))
        if [ "$held" ] && [ "$word" != target-feature=+crt-static ]; then
            set -- "$@" -C
        fi
        held=
        case $word in
        -C) held=1 ;;
        target-feature=+crt-static) ;;
        *) set -- "$@" "$word" ;;
        esac
    done
fi
exec "$@"
