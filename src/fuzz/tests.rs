//! A smoke run of each target, and each with its fault.

use super::TARGETS;

fn target(name: &str) -> &'static crate::testing::fuzz::Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target")
}

macro_rules! smoke {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        mod holds {
            $(#[test] fn $name() { super::target(stringify!($name)).smoke(); })*
        }

        mod planted_fault_is_found {
            $(#[test] fn $name() { assert!(super::target(stringify!($name)).finds_planted_fault()); })*
        }
    };
}

smoke! {
    opening following transfer cancellation directory settlement mint_request mint_answer receipt envelope evidence dispute
    store_records store_journal wallet_records credential challenge usage events gateway_model batch
}

#[test]
fn every_target_has_its_tests_and_its_file() {
    assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), NAMES);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for name in NAMES.iter().chain(&["native_and_circuit", "configuration"]) {
        assert!(folder.join(format!("{name}.rs")).exists(), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
