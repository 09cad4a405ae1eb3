// SPDX-License-Identifier: Apache-2.0
//! MAC address of an interface: which of several that were asked for counts.

use sluice_packet::Mac;

use crate::Error;
use crate::spec::call::Call;
use crate::spec::fields::Fields;

/// Returns the MAC address asked for, as text: runtimeConfig before CNI_ARGS before the key.
pub(super) fn asked(
    fields: &Fields<'_>,
    runtime: Option<&Fields<'_>>,
    call: &Call,
) -> Result<Option<String>, Error> {
    let from_runtime = runtime
        .map(|runtime| runtime.string("mac"))
        .transpose()?
        .flatten();
    let candidates = [
        ("runtimeConfig.mac", from_runtime),
        ("CNI_ARGS MAC", call.arg("MAC")),
        ("mac", fields.string("mac")?),
    ];
    let asked = candidates
        .into_iter()
        .find_map(|(source, mac)| mac.filter(|mac| !mac.is_empty()).map(|mac| (source, mac)));
    let Some((source, text)) = asked else {
        return Ok(None);
    };
    Mac::parse_unicast(text)
        .map(|mac| Some(mac.to_string()))
        .map_err(|error| Error::Config(format!("{source}: {error}")))
}
