# SPDX-License-Identifier: Apache-2.0
"""Checks the manifests of deploy/ without a cluster. Prints what is wrong and ends with 1, or what was checked.

usage: check.py CHECKOUT [KUBECTL...]
Each KUBECTL renders the kustomizations with the kustomize that is built in: their results must be equal.
"""

import copy
import pathlib
import subprocess
import sys

import helm_python
import kubernetes_validate
import yaml

VERSIONS = ["1.35", "1.36", "1.37"]
# Kinds that no Kubernetes has by itself, so that there is no schema.
CUSTOM = {"NetworkAttachmentDefinition", "SecurityContextConstraints", "PodMonitor", "PrometheusRule"}
problems = []


def problem(text):
    problems.append(text)


def key(item):
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def sort(value):
    """Sorts lists of named things, whose order says nothing."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        sort(part)
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        value.sort(key=lambda one: (one["name"], one.get("mountPath", "")))


def documents(text):
    """Objects of a YAML stream by kind and name, without differences that mean nothing."""
    found = {}
    for item in yaml.safe_load_all(text):
        if not item:
            continue
        if not item["metadata"].get("annotations", True):
            del item["metadata"]["annotations"]
        sort(item)
        if key(item) in found:
            problem(f"{key(item)} is there twice")
        found[key(item)] = item
    return found


def render(kubectl, folder):
    command = [kubectl, "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        problem(f"{' '.join(command)}: {done.stderr.strip()}")
        return {}
    return documents(done.stdout)


def validate(name, items):
    for item in items:
        if item["kind"] in CUSTOM:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except Exception as error:
                problem(f"{name}: {key(item)} with Kubernetes {version}: {error}")


def differences(name, left, right):
    """Notes the first place at which two values differ, for each object."""
    for one in sorted({*left, *right}, key=str):
        a, b = left.get(one), right.get(one)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            differences(f"{name}: {one}", a, b)
        else:
            problem(f"{name}: {one}: {str(a)[:300]} is not {str(b)[:300]}")


def kustomizations(deploy, kubectls):
    folders = sorted(file.parent for file in deploy.rglob("kustomization.yaml"))
    base = None
    for folder in folders:
        name = folder.relative_to(deploy)
        first, *others = [render(kubectl, folder) for kubectl in kubectls]
        for other in others:
            differences(f"{name}: two versions of kustomize", first, other)
        validate(name, first.values())
        if folder == deploy:
            base = first
    return len(folders), base


def samples(deploy):
    """Every other file of manifests."""
    count = 0
    for folder in ["samples", "vfirewall", "devices", "monitoring", "sriov"]:
        for file in sorted((deploy / folder).rglob("*.yaml")):
            if (file.parent / "kustomization.yaml").exists():
                continue
            try:
                items = [item for item in yaml.safe_load_all(file.read_text()) if item]
            except yaml.YAMLError as error:
                problem(f"{file}: {error}")
                continue
            if all(isinstance(item, dict) and "kind" in item and "apiVersion" in item for item in items):
                validate(file.relative_to(deploy), items)
                count += 1
    return count


def refused(chart, values, why):
    try:
        chart.validate_schema(values)
    except helm_python.HelmError:
        return
    problem(f"the chart takes {values}: {why}")


def chart(deploy, base):
    folder = deploy / "chart"
    for message in helm_python.lint(str(folder))["messages"]:
        # 1 is information: a chart without an icon.
        if message["severity"] > 1:
            problem(f"chart: {message}")
    loaded = helm_python.Chart.load(str(folder))

    def rendered(values):
        files = loaded.render(values, name="sluicegate", namespace="kube-system").values()
        return documents("\n---\n".join(files))

    crds = documents((folder / "crds/crds.yaml").read_text())
    differences("the chart and the base", {**crds, **rendered({})}, base)
    # Each value does what it says, and nothing else.
    changed = copy.deepcopy(rendered({}))
    values = {
        "image": {"repository": "registry.example/sluicegate", "tag": "7", "pullSecrets": ["mine"]},
        "engine": {"privileged": True, "policies": {"a.yaml": "name: a\n"}},
        "agent": {"maxUnavailable": 2},
        "cni": {"binDir": "/a/bin", "confDir": "/a/net.d"},
    }
    for name in ["sluiced", "sluice-agent"]:
        spec = changed["DaemonSet", "kube-system", name]["spec"]["template"]["spec"]
        spec["containers"][0]["image"] = "registry.example/sluicegate:7"
        spec["imagePullSecrets"] = [{"name": "mine"}]
    engine = changed["DaemonSet", "kube-system", "sluiced"]["spec"]["template"]["spec"]
    engine["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}
    agent = changed["DaemonSet", "kube-system", "sluice-agent"]
    agent["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 2
    for volume in agent["spec"]["template"]["spec"]["volumes"]:
        places = {"cni-bin": "/a/bin", "cni-conf": "/a/net.d"}
        if volume["name"] in places:
            volume["hostPath"]["path"] = places[volume["name"]]
    changed["ConfigMap", "kube-system", "sluicegate-policies"]["data"] = {"a.yaml": "name: a\n"}
    # The configuration that the agent writes names the host's folder, not its own mount.
    data = changed["ConfigMap", "kube-system", "sluice-agent"]["data"]
    text = data["sluice-agent.yaml"]
    data["sluice-agent.yaml"] = text.replace("host_conf_dir: /etc/cni/net.d", "host_conf_dir: /a/net.d")
    differences("the chart's values", rendered(values), changed)
    validate("chart with values", changed.values())
    refused(loaded, {"engine": {"privilged": True}}, "the key is not spelt so")
    refused(loaded, {"cni": {"binDir": "opt/cni/bin"}}, "the path is relative")
    refused(loaded, {"image": {"pullPolicy": "Sometimes"}}, "there is no such policy")
    refused(loaded, {"engine": {"policies": {"../a.yaml": ""}}}, "it is no file name")


def main():
    checkout, *kubectls = sys.argv[1:]
    deploy = pathlib.Path(checkout) / "deploy"
    folders, base = kustomizations(deploy, kubectls)
    files = samples(deploy)
    chart(deploy, base or {})
    # A schema that takes everything would find nothing.
    engine = copy.deepcopy((base or {})["DaemonSet", "kube-system", "sluiced"])
    engine["spec"]["template"]["spec"]["hostPid"] = True
    before = len(problems)
    validate("probe", [engine])
    if len(problems) == before:
        problem("a field that does not exist was not found")
    found = [one for one in problems if not one.startswith("probe: ")]
    for one in found:
        print(one)
    print(f"{folders} kustomizations, {files} files, the chart; Kubernetes {', '.join(VERSIONS)}; {len(kubectls)} kubectl")
    sys.exit(1 if found else 0)


main()
