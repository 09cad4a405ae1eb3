// SPDX-License-Identifier: Apache-2.0
//! Counters that a NIC keeps itself.

/// Defines [`NicCounters`] and what walks its fields, so that a new counter is one line here, and one
/// in each driver whose NIC has it.
macro_rules! nic_counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counts of a NIC's own registers since its driver opened it.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
        pub struct NicCounters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl NicCounters {
            /// Names of the counters, in the order of [`NicCounters::values`].
            pub const NAMES: [&'static str; Self::COUNT] = [$(stringify!($field)),*];

            /// Number of counters.
            pub const COUNT: usize = [$(stringify!($field)),*].len();

            /// Returns the counters in the order of their declaration.
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$field),*]
            }

            /// Builds the counters from what [`NicCounters::values`] returned.
            pub fn from_values([$($field),*]: [u64; Self::COUNT]) -> NicCounters {
                NicCounters { $($field),* }
            }
        }
    };
}

nic_counters! {
    /// Frames received without error.
    rx_frames,
    /// Bytes of the frames received.
    rx_bytes,
    /// Multicast frames among those received.
    rx_multicast,
    /// Frames sent.
    tx_frames,
    /// Bytes of the frames sent.
    tx_bytes,
    /// Times the driver had to reset the function and set it up again.
    resets,
}

#[cfg(test)]
mod tests {
    use super::NicCounters;

    #[test]
    fn the_values_are_those_of_the_fields_in_order() {
        let values: [u64; NicCounters::COUNT] = std::array::from_fn(|index| index as u64 + 1);
        let counters = NicCounters::from_values(values);
        assert_eq!(counters.values(), values);
        assert_eq!((counters.rx_frames, counters.resets), (1, 6));
        assert_eq!(NicCounters::NAMES[5], "resets");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn the_names_are_those_of_the_json_form() {
        let json = serde_json::to_value(NicCounters::default()).ok();
        let keys = json.as_ref().and_then(|json| json.as_object());
        let keys = keys.map(|keys| keys.keys().cloned().collect::<Vec<_>>());
        let mut names = NicCounters::NAMES.map(str::to_owned).to_vec();
        names.sort_unstable();
        assert_eq!(keys, Some(names));
    }
}
