// SPDX-License-Identifier: Apache-2.0
//! Vector instructions of every kind that this CPU has judge random policies as the naive walk does.

mod random;

use proptest::prelude::*;
use sluice_firewall::{Direction, Hit, Simd, Table, Verdict, naive};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn all_paths_agree(
        policy in prop_oneof![
            4 => random::policy(0..24),
            1 => random::policy(60..140),
            1 => random::policy(250..270),
        ],
        keys in prop::collection::vec(random::key(), 1..70),
    ) {
        let blank = Hit { rule: u32::MAX, verdict: Verdict::Drop, log: false };
        for direction in Direction::BOTH {
            let expected: Vec<Hit> = keys
                .iter()
                .map(|key| naive::judge(&policy, direction, key))
                .collect();
            for simd in Simd::available() {
                let table = Table::compile_for(&policy, direction, simd);
                let mut hits = vec![blank; keys.len()];
                prop_assert_eq!(table.judge_burst(&keys, &mut hits), keys.len());
                prop_assert_eq!(&hits, &expected, "{}", simd.name());
                for (key, expected) in keys.iter().zip(&expected) {
                    prop_assert_eq!(table.judge(key), *expected, "{}", simd.name());
                }
            }
        }
    }
}

#[test]
fn the_widest_comes_first_and_plain_rust_last() {
    let names: Vec<&str> = Simd::available().map(Simd::name).collect();
    assert_eq!(names.first(), Some(&Simd::widest().name()));
    assert_eq!(names.last(), Some(&"portable"));
    let missing: Vec<&str> = ["avx512", "avx2"]
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if !missing.is_empty() {
        println!(
            "skipped on this CPU, which has them not: {}",
            missing.join(", ")
        );
    }
}
