#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the parts of the image as CycloneDX 1.5 (JSON): its programs, the Rust packages compiled into them, and the
Debian packages that its libraries come from.

A generator of our own, since the one for Cargo takes seven minutes to build and knows no Debian packages. Rust packages
are those that `cargo metadata` resolves for the target from the programs' packages by normal dependencies; procedural
macros and build scripts run at build time and are left out. No serial number and no time of day: the same image has
the same list.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys

PROGRAMS = {
    "sluiced": "usr/bin/sluiced",
    "sluicectl": "usr/bin/sluicectl",
    "sluice-agent": "usr/bin/sluice-agent",
    "sluice-vfirewall": "usr/bin/vfirewall",
    "sluicegate": "usr/lib/sluicegate/sluicegate",
}
TARGET = "x86_64-unknown-linux-gnu"


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def rust(checkout):
    """Rust packages of the programs: components, and what each depends on."""
    cargo = os.environ.get("CARGO", "cargo")
    metadata = json.loads(
        run(cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET, cwd=checkout)
    )
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        id
        for id, package in packages.items()
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }

    def needs(id):
        for dependency in nodes[id]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in macros:
                yield dependency["pkg"]

    members = set(metadata["workspace_members"])
    todo = [id for id in members if packages[id]["name"] in PROGRAMS]
    found = set()
    while todo:
        id = todo.pop()
        if id not in found:
            found.add(id)
            todo.extend(needs(id))

    def reference(id):
        return f"pkg:cargo/{packages[id]['name']}@{packages[id]['version']}"

    components, links = [], []
    for id in sorted(found, key=reference):
        package = packages[id]
        component = {
            "type": "library",
            "bom-ref": reference(id),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(id),
        }
        licence = package.get("license") or ("Apache-2.0" if id in members else None)
        if licence:
            # The older spelling of a choice.
            component["licenses"] = [{"expression": licence.replace("/", " OR ")}]
        if package.get("repository"):
            component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        components.append(component)
        links.append({"ref": reference(id), "dependsOn": sorted(set(map(reference, needs(id))))})
    return components, links


def owner(path):
    """Debian package that owns a file; the database may have it by its path before /usr was merged."""
    for name in (path, re.sub("^/usr", "", path)):
        try:
            return run("dpkg-query", "--search", name).split(": ")[0]
        except subprocess.CalledProcessError:
            continue
    sys.exit(f"no Debian package owns {path}: build the image on Debian, with its nftables")


def debian(files):
    """Debian packages of the files that were taken from this machine."""
    release = dict(
        line.rstrip().split("=", 1) for line in open("/etc/os-release", encoding="utf-8") if "=" in line
    )
    codename = release.get("VERSION_CODENAME", "").strip('"')
    components = []
    for package in sorted({owner(file) for file in files}):
        form = "${Package}\t${Version}\t${Architecture}\t${source:Package}"
        name, version, architecture, source = run("dpkg-query", "--show", "-f", form, package).split("\t")
        component = {
            "type": "library",
            "bom-ref": f"pkg:deb/debian/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version.replace('+', '%2B')}?arch={architecture}&distro={codename}",
            "properties": [{"name": "debian:source", "value": source}],
        }
        names = licences(name)
        if names:
            component["licenses"] = [{"license": {"name": one}} for one in names]
        components.append(component)
    return components


def licences(package):
    """Short names of licences in the package's copyright file, where that is written for machines (DEP-5)."""
    try:
        with open(f"/usr/share/doc/{package}/copyright", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return []
    if "copyright-format" not in text:
        return []
    return sorted({line.split(":", 1)[1].strip() for line in text.splitlines() if re.match(r"License: \S", line)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--root", required=True, help="root of the image")
    parser.add_argument("--debian", required=True, help="list of the files taken from Debian packages")
    parser.add_argument("--name", required=True, help="name and tag of the image")
    options = parser.parse_args()
    name, _, version = options.name.rpartition(":")
    libraries, links = rust(options.checkout)
    programs = []
    for package, path in [*PROGRAMS.items(), ("sluicegate", "usr/lib/sluicegate/sluicegate-vf")]:
        programs.append(
            {
                "type": "application",
                "bom-ref": path,
                "name": os.path.basename(path),
                "hashes": [{"alg": "SHA-256", "content": sha256(os.path.join(options.root, path))}],
            }
        )
        own = [one["bom-ref"] for one in libraries if one["name"] == package]
        links.append({"ref": path, "dependsOn": own})
    with open(options.debian, encoding="utf-8") as file:
        packages = debian(file.read().split())
    image = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    top = sorted(one["bom-ref"] for one in [*programs, *packages])
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": image},
        "components": [*programs, *libraries, *packages],
        "dependencies": [{"ref": "image", "dependsOn": top}, *links],
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
