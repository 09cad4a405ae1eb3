// SPDX-License-Identifier: Apache-2.0
//! Every path that this CPU has does what the portable twin does.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use proptest::prelude::*;

use super::*;

/// Results of all operations, for comparison.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    ranks: Vec<usize>,
    firsts: Vec<usize>,
    pairs: Vec<u16>,
}

struct Inputs<'r> {
    node16: Node16,
    node8: Node8,
    numbers: &'r [i64],
    rows: &'r [[u64; 16]; 3],
    live: &'r [u32; LANES],
    results: &'r mut Results,
}

fn prefix<const W: usize>(row: &[u64; 16]) -> &[u64; W] {
    row.first_chunk()
        .expect("no row is longer than sixteen words")
}

impl Kernel for Inputs<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let narrow = |number: i64| i32::try_from(number >> 32).expect("the upper half fits");
        let wide = self.numbers.iter().map(|&n| isa.rank8(&self.node8, n));
        self.results.ranks = wide.collect();
        let narrow = self
            .numbers
            .iter()
            .map(|&n| isa.rank16(&self.node16, narrow(n)));
        self.results.ranks.extend(narrow);

        fn firsts<I: Isa, const W: usize>(isa: I, [a, b, c]: &[[u64; 16]; 3]) -> [usize; 3] {
            let (a, b, c) = (prefix::<W>(a), prefix(b), prefix(c));
            [isa.first([a]), isa.first([a, b]), isa.first([a, b, c])]
        }
        let rows = self.rows;
        self.results.firsts = [
            firsts::<I, 1>(isa, rows),
            firsts::<I, 2>(isa, rows),
            firsts::<I, 4>(isa, rows),
            firsts::<I, 8>(isa, rows),
            firsts::<I, 16>(isa, rows),
        ]
        .into_iter()
        .zip([64, 128, 256, 512, 1024])
        // Without a bit, any number from the row's length on.
        .flat_map(|(found, bits)| found.map(|first| first.min(bits)))
        .collect();

        let mut pairs = Pairs::new();
        let count = isa.pairs(self.live, &mut pairs);
        self.results.pairs = pairs.first(count).to_vec();
        self.results.pairs.sort_unstable();
    }
}

/// Rows in which few bits are set, so that the lowest common one may be anywhere.
fn row() -> impl Strategy<Value = [u64; 16]> {
    let word = prop_oneof![
        4 => Just(0_u64),
        2 => any::<u64>(),
        1 => Just(u64::MAX),
        1 => (0..64).prop_map(|bit| 1_u64 << bit),
    ];
    prop::collection::vec(word, 16).prop_map(|row| *prefix(row.as_array().expect("sixteen")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn paths_agree(
        mut narrow in any::<[i32; 16]>(),
        mut wide in any::<[i64; 8]>(),
        numbers in prop::collection::vec(any::<i64>(), 4),
        rows in [row(), row(), row()],
        live in prop::collection::vec(
            prop_oneof![Just(0), Just((1 << CHILDREN) - 1), 0u32..1 << CHILDREN, (0..CHILDREN).prop_map(|bit| 1 << bit)],
            LANES,
        ),
    ) {
        narrow.sort_unstable();
        wide.sort_unstable();
        // The numbers of the nodes themselves and the ends, too.
        let mut numbers = numbers;
        numbers.extend(wide);
        numbers.extend(narrow.map(|number| i64::from(number) << 32));
        numbers.extend([i64::MIN, i64::MAX]);
        let live = live.as_array().expect("as many as lanes");
        let results = |simd: Simd| {
            let mut results = Results::default();
            simd.run(Inputs {
                node16: Node16(narrow),
                node8: Node8(wide),
                numbers: &numbers,
                rows: &rows,
                live,
                results: &mut results,
            });
            results
        };
        let expected = results(Simd(Path::Portable(Portable)));
        let set: u32 = live.iter().map(|live| live.count_ones()).sum();
        prop_assert_eq!(expected.pairs.len(), set as usize);
        for simd in Simd::available() {
            prop_assert_eq!(&results(simd), &expected, "{}", simd.name());
        }
    }
}
