# The ways in. Each is a line of cargo that you can type yourself.

# Lists the recipes.
default:
    @just --list

# The main job: calls that are paid over HTTP, and attacks that fail.
demo *ARGS:
    cargo halometer demo {{ARGS}}

# The tests, by the command of the README.
test:
    cargo test --workspace --features cli

# Formatting, lints and docs, with warnings denied.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features cli -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features cli

# What the ordinary tests only sample: every cell, every byte, hundreds of kills.
slow:
    cargo slow-tests

# The figures of docs/performance.md.
bench *ARGS:
    cargo halometer bench {{ARGS}}

# One fuzz target, for as long as you let it run. Needs cargo-fuzz and a nightly toolchain.
fuzz TARGET *ARGS:
    cargo +nightly fuzz run {{TARGET}} {{ARGS}}

# The reference of the API, in a browser.
docs:
    cargo doc --workspace --no-deps --features cli --open

# All that a change must pass.
ci:
    bash .ci/run
