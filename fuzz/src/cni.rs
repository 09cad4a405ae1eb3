// SPDX-License-Identifier: Apache-2.0
//! Input that a container runtime gives a plugin: lines of `NAME=value` for the environment, a zero byte, then
//! standard input.

use std::collections::HashMap;

use sluicegate::multus::MetaConf;
use sluicegate::spec::call::Call;
use sluicegate::spec::conf::NetConf;
use sluicegate::spec::result;
use sluicegate::spec::version::Version;
use sluicegate::sriov::VfConf;

/// Reads environment and input as both plugins do, and converts what may be a result to each version and back.
pub(crate) fn body(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let environment = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    let variables: HashMap<&str, &str> = pairs.collect();
    let call = Call::read(|name| variables.get(name).map(|value| (*value).to_owned()));
    let Ok(conf) = NetConf::parse(parts.next().unwrap_or_default()) else {
        return;
    };
    let _ = MetaConf::read(&conf);
    if let Ok(Some(call)) = &call {
        let _ = VfConf::read(&conf, call);
        for key in ["K8S_POD_NAME", "IgnoreUnknown", "mac"] {
            let _ = call.arg(key);
        }
    }
    let Some(previous) = conf
        .fields()
        .get("prevResult")
        .and_then(|it| it.as_object())
    else {
        return;
    };
    for to in Version::ALL {
        if let Ok(converted) = result::convert(previous, to) {
            // What we have made of it, we must be able to read.
            let again = result::convert(&converted, to);
            assert!(again.is_ok(), "{converted:?} as {to:?}: {again:?}");
        }
    }
}
