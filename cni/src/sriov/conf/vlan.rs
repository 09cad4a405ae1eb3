// SPDX-License-Identifier: Apache-2.0
//! VLANs of an engine attachment: `vlan`, or `vlans` with `native`; and `qinq`.

use serde_json::Value;
use sluice_api::VlanRequest;
use sluice_packet::{Vid, VidRange};

use crate::Error;
use crate::spec::fields::Fields;

pub(super) fn read(fields: &Fields<'_>) -> Result<VlanRequest, Error> {
    let qinq = fields.boolean("qinq")?.unwrap_or_default();
    let vid = |key: &'static str| -> Result<Option<Vid>, Error> {
        let number: Option<u16> = fields.integer(key, 0, 4094)?;
        Ok(number.and_then(Vid::new))
    };
    let (access, native) = (vid("vlan")?, vid("native")?);
    match (access, fields.list("vlans")?) {
        (Some(_), Some(_)) => Err(Error::Config(
            "vlan makes an access attachment and vlans a trunk: give one of them".into(),
        )),
        (_, None) if native.is_some() => Err(Error::Config(
            "native belongs to a trunk: give vlans too".into(),
        )),
        (access, None) => Ok(VlanRequest::Access {
            vid: access.unwrap_or(Vid::UNTAGGED),
            qinq,
        }),
        (None, Some(list)) => {
            let mut vids = Vec::new();
            for entry in list {
                let range = vid_range(entry).ok_or_else(|| {
                    fields.wrong(
                        "vlans",
                        "a list of VLAN ids 1 to 4094 and ranges \"220-229\"",
                    )
                })?;
                vids.extend(range.vids());
            }
            vids.sort_unstable();
            vids.dedup();
            if vids.is_empty() {
                return Err(fields.wrong("vlans", "a list of at least one VLAN id"));
            }
            Ok(VlanRequest::Trunk { vids, native, qinq })
        }
    }
}

/// Reads one entry of `vlans`: a VLAN id, or a range as text.
fn vid_range(entry: &Value) -> Option<VidRange> {
    let range = match entry {
        Value::Number(number) => Vid::try_from(number.as_u64()?).ok()?.into(),
        Value::String(text) => text.trim().parse::<VidRange>().ok()?,
        _ => return None,
    };
    range.check_tagged().ok()
}
