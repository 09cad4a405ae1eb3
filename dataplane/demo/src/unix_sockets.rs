// SPDX-License-Identifier: Apache-2.0
//! Unix sockets of a network namespace, from `/proc/net/unix`.

use super::home::MARK;

/// Names of sockets in the text of `/proc/net/unix`, `@name` for abstract ones, without those that
/// the kernel numbers and those that have none.
pub(super) fn names(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(7));
    let mut names: Vec<String> = names
        .filter(|name| name.contains("sluice") || name.contains(MARK))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_by_name() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 123 @sluicegate/net1\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 124\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 125 /run/other.sock\n";
        assert_eq!(names(text), ["@sluicegate/net1"]);
    }
}
