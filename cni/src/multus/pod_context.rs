// SPDX-License-Identifier: Apache-2.0
//! [`PodContext`]: the pod that a call is for, as far as it is known, and the API server, if there is one.

use super::MetaConf;
use super::annotation::Annotations;
use super::source::{Cluster, Pod};
use crate::Error;
use crate::spec::fields;
use crate::spec::log::Log;
use crate::spec::protocol::Context;

/// Capability by which a runtime passes the pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Pod and API server of a call.
#[derive(Debug, Default)]
pub(super) struct PodContext {
    /// The API server; `None`: there is none, or the call is for no pod.
    pub(super) cluster: Option<Cluster>,
    /// The pod; `None`: nothing is known of one.
    pub(super) pod: Option<Pod>,
}

impl PodContext {
    /// Loads the pod: from the API server if there is one, else from what the runtime passed.
    ///
    /// # Errors
    /// [`Error::TryAgain`]: there is no such pod (yet), or the API server does not answer.
    /// [`Error::Config`]: it will not answer, or the pod is another one of the same name.
    pub(super) fn load(conf: &MetaConf, context: &Context) -> Result<PodContext, Error> {
        let call = &context.call;
        let Some(name) = call.arg("K8S_POD_NAME") else {
            return Ok(PodContext {
                cluster: None,
                pod: passed(conf, None, None),
            });
        };
        let namespace = call.arg("K8S_POD_NAMESPACE").unwrap_or("default");
        let Some(cluster) = PodContext::cluster(conf, context)? else {
            return Ok(PodContext {
                cluster: None,
                pod: passed(conf, Some(namespace), Some(name)),
            });
        };
        let pod = cluster.pod(namespace, name)?.ok_or_else(|| {
            Error::TryAgain(format!(
                "the API server knows no pod {namespace}/{name} (yet)"
            ))
        })?;
        let asked = call.arg("K8S_POD_UID");
        if let Some(asked) = asked.filter(|uid| *uid != pod.uid && !pod.is_static()) {
            return Err(Error::Config(format!(
                "the call is for pod {} with UID {asked}, and the API server has one of that name \
                 with UID {}: the one called for is gone",
                pod.who(),
                pod.uid
            )));
        }
        Ok(PodContext {
            cluster: Some(cluster),
            pod: Some(pod),
        })
    }

    /// The API server that the configuration, or else the pod that this process runs in, has
    /// credentials for.
    ///
    /// # Errors
    /// [`Error::Config`]: they make no sense.
    pub(super) fn cluster(conf: &MetaConf, context: &Context) -> Result<Option<Cluster>, Error> {
        if conf.kubeconfig.is_none() && !in_cluster() {
            return Ok(None);
        }
        Cluster::connect(conf.kubeconfig.as_deref(), context.budget).map(Some)
    }

    /// Tells people what went wrong, on the pod.
    pub(super) fn event(&self, reason: &str, message: &str, log: &Log) {
        if let (Some(cluster), Some(pod)) = (&self.cluster, &self.pod) {
            cluster.event(pod, reason, message, log);
        }
    }
}

/// Whether this process runs in a pod that has the API server's address from the kubelet.
fn in_cluster() -> bool {
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && std::path::Path::new(token).exists()
}

/// The pod as the runtime passed it.
fn passed(conf: &MetaConf, namespace: Option<&str>, name: Option<&str>) -> Option<Pod> {
    let annotations = fields::find(&conf.runtime_config, ANNOTATIONS)?.as_object()?;
    let texts = annotations.iter().filter_map(|(key, value)| {
        let text = value.as_str()?;
        Some((key.clone(), text.to_owned()))
    });
    let annotations: Annotations = texts.collect();
    let known = |key: &str| annotations.get(key).cloned();
    Some(Pod {
        namespace: namespace.unwrap_or("default").to_owned(),
        name: name.unwrap_or_default().to_owned(),
        uid: known("io.kubernetes.cri.sandbox-uid").unwrap_or_default(),
        annotations,
    })
}
