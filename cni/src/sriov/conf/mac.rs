//! MAC addresses as people write them, and which of several asked for counts.

use crate::Error;
use crate::spec::call::Call;
use crate::spec::fields::Fields;

/// The MAC asked for: runtimeConfig before CNI_ARGS before the key.
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
    unicast_mac(text).map(Some).ok_or_else(|| {
        Error::Config(format!(
            "{source} {text:?} is not a unicast MAC address like 02:00:5e:10:00:01"
        ))
    })
}

/// A MAC address as the engine writes it, if `text` is one that an interface can have.
pub fn unicast_mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(hex) {
        return None;
    }
    let text = parts.join(":").to_ascii_lowercase();
    let multicast = u8::from_str_radix(parts[0], 16).ok()? & 1 == 1;
    (!multicast && text != "00:00:00:00:00:00").then_some(text)
}
