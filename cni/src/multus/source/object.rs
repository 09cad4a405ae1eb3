// SPDX-License-Identifier: Apache-2.0
//! Objects of the cluster as configurations: `Network` of the older documents and
//! `NetworkAttachmentDefinition`.

use serde_json::{Map, Value};

use super::Disk;
use crate::Error;
use crate::spec::conf;
use crate::spec::fields::{self, Fields};

/// Ties a NetworkAttachmentDefinition to devices of that resource.
const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// A network's configuration, and where it comes from.
#[derive(Debug, Clone)]
pub(in crate::multus) struct Found {
    /// The configuration, which has no name if the network's author gave none.
    pub(in crate::multus) conf: Map<String, Value>,
    /// The object's name, or the configuration's on disk.
    pub(in crate::multus) name: String,
    /// The object's namespace; none for one on disk.
    pub(in crate::multus) namespace: Option<String>,
    /// Resource of a device plugin that it needs a device of.
    pub(in crate::multus) resource: Option<String>,
}

impl Found {
    /// Returns a network whose configuration is a file of the node.
    pub(in crate::multus) fn on_disk(name: &str, conf: Map<String, Value>) -> Found {
        Found {
            conf,
            name: name.to_owned(),
            namespace: None,
            resource: None,
        }
    }

    /// `namespace/name`, as network-status has it.
    pub(in crate::multus) fn label(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

fn found(object: &Map<String, Value>, conf: Map<String, Value>) -> Result<Found, Error> {
    let meta = metadata(object)?;
    let text = |key| meta.string(key).map(|text| text.map(str::to_owned));
    let annotations = meta.object("annotations")?;
    let resource = annotations
        .map(|annotations| annotations.string(RESOURCE_NAME))
        .transpose()?
        .flatten();
    Ok(Found {
        conf,
        name: text("name")?.unwrap_or_default(),
        namespace: text("namespace")?,
        resource: resource
            .filter(|resource| !resource.is_empty())
            .map(str::to_owned),
    })
}

fn metadata(object: &Map<String, Value>) -> Result<Fields<'_>, Error> {
    let meta = Fields::new(object).object("metadata")?;
    meta.ok_or_else(|| Error::Config("an object of the API server has no metadata".into()))
}

/// Returns kind, namespace and name of an object, for messages.
fn who(kind: &str, object: &Map<String, Value>) -> String {
    let text = |key| {
        let meta = metadata(object).ok()?;
        meta.string(key).ok().flatten().map(str::to_owned)
    };
    format!(
        "{kind} {}/{}",
        text("namespace").unwrap_or_default(),
        text("name").unwrap_or_default()
    )
}

/// A `Network`: `plugin` is the type, `args` a JSON list of one object, as text.
///
/// # Errors
/// [`Error::Config`], naming the object: it is not so.
pub(in crate::multus) fn network(object: &Map<String, Value>, disk: &Disk) -> Result<Found, Error> {
    let who = who("Network", object);
    let about = |error: Error| Error::Config(format!("{who}: {error}"));
    let fields = Fields::new(object);
    let plugin = fields.string("plugin").map_err(about)?.unwrap_or_default();
    if plugin.is_empty() {
        // One in the form of today, under the old kind.
        return nad(object, disk);
    }
    let args = fields.string("args").map_err(about)?.unwrap_or_default();
    let mut conf = match args.trim() {
        "" => Map::new(),
        args => match serde_json::from_str::<Value>(args) {
            Ok(Value::Array(mut list)) if list.len() <= 1 => match list.pop() {
                Some(Value::Object(conf)) => conf,
                None => Map::new(),
                Some(_) => return Err(about(Error::Config("args holds no object".into()))),
            },
            Ok(Value::Object(conf)) => conf,
            Ok(_) => {
                let why = "args must be a JSON list of one object, as text";
                return Err(about(Error::Config(why.into())));
            }
            Err(error) => {
                return Err(about(Error::Config(format!("args is not JSON: {error}"))));
            }
        },
    };
    fields::set(&mut conf, "type", plugin.into());
    found(object, conf).map_err(about)
}

/// A `NetworkAttachmentDefinition`: `spec.config`; else the configuration on disk of that name; else
/// `spec.plugin`, a plugin that needs none.
///
/// # Errors
/// [`Error::Config`], naming the object: it has none of these. [`Error::Json`]: its configuration is no
/// JSON.
pub(in crate::multus) fn nad(object: &Map<String, Value>, disk: &Disk) -> Result<Found, Error> {
    let who = who("NetworkAttachmentDefinition", object);
    let about = |error: Error| Error::Config(format!("{who}: {error}"));
    let spec = Fields::new(object).object("spec").map_err(about)?;
    let text = |key: &'static str| -> Result<&str, Error> {
        let text = spec.as_ref().map(|spec| spec.string(key));
        Ok(text
            .transpose()
            .map_err(about)?
            .flatten()
            .unwrap_or_default())
    };
    let config = text("config")?;
    if !config.trim().is_empty() {
        let conf = conf::object(config.as_bytes(), &format!("spec.config of {who}"))?;
        return found(object, conf).map_err(about);
    }
    let named = found(object, Map::new()).map_err(about)?;
    if let Some(conf) = disk.by_name(&named.name)? {
        return Ok(Found { conf, ..named });
    }
    let plugin = text("plugin")?;
    if plugin.is_empty() {
        return Err(Error::Config(format!(
            "{who} has no spec.config, and no configuration named {} is in {}",
            named.name,
            disk.places()
        )));
    }
    let mut conf = Map::new();
    conf.insert("type".into(), plugin.into());
    Ok(Found { conf, ..named })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(more: Value) -> Map<String, Value> {
        let mut object = json!({"metadata": {"namespace": "ns", "name": "n1",
            "annotations": {RESOURCE_NAME: "vendor/vf"}}});
        let map = object.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        map.clone()
    }

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(dir.path()));
        (dir, disk)
    }

    #[test]
    fn a_network_of_the_older_documents() {
        let (_dir, disk) = disk();
        let args = r#"[{"if0": "enp2s0", "vlan": 210, "if0name": "north", "l2enable": true}]"#;
        let read = network(&object(json!({"plugin": "sriov", "args": args})), &disk).unwrap();
        assert_eq!(read.label(), "ns/n1");
        assert_eq!(
            (&read.conf["type"], &read.conf["vlan"]),
            (&json!("sriov"), &json!(210))
        );
        assert!(!read.conf.contains_key("cniVersion"), "none is put in");
        let bare = network(&object(json!({"plugin": "ptp"})), &disk).unwrap();
        assert_eq!(Value::Object(bare.conf), json!({"type": "ptp"}));
        for bad in ["[{}, {}]", "[1]", "7", "[{"] {
            let bad = object(json!({"plugin": "sriov", "args": bad}));
            let error = network(&bad, &disk).unwrap_err();
            assert_eq!(error.code(), 7);
            assert!(error.to_string().contains("Network ns/n1"), "{error}");
        }
    }

    #[test]
    fn the_three_forms_of_today() {
        let (dir, disk) = disk();
        let inside = json!({"spec": {"config": r#"{"cniVersion": "1.0.0", "type": "bridge"}"#}});
        let read = nad(&object(inside), &disk).unwrap();
        assert_eq!(
            (&read.conf["type"], read.resource.as_deref()),
            (&json!("bridge"), Some("vendor/vf"))
        );
        let error = nad(&object(json!({})), &disk).unwrap_err();
        assert_eq!(error.code(), 7);
        assert!(error.to_string().contains("no spec.config"), "{error}");
        let plugin = json!({"spec": {"plugin": "knows"}});
        assert_eq!(
            nad(&object(plugin.clone()), &disk).unwrap().conf["type"],
            "knows"
        );
        let file = dir.path().join("a.conf");
        std::fs::write(file, r#"{"name": "n1", "type": "ptp"}"#).unwrap();
        assert_eq!(nad(&object(json!({})), &disk).unwrap().conf["type"], "ptp");
        assert_eq!(nad(&object(plugin), &disk).unwrap().conf["type"], "ptp");
        let torn = nad(&object(json!({"spec": {"config": "{"}})), &disk).unwrap_err();
        assert_eq!(torn.code(), 6);
        assert!(torn.to_string().contains("ns/n1"), "{torn}");
    }
}
