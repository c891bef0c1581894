"""Prints a software bill of materials (CycloneDX 1.5, JSON) of the auth-gateway program.

Usage: sbom.py TARGET_TRIPLE

It has what cargo would compile into the program for that target (no build scripts' or tests' dependencies), with
package URLs, licences and the checksums of Cargo.lock.
"""

import json
import os
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone


def metadata(target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def runtime_dependencies(nodes, root):
    """Ids of everything that is linked into `root`, in the order of a search, with their own dependencies."""
    found, waiting = {}, [root]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        needed = [
            dependency["pkg"]
            for dependency in nodes[package]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
        found[package] = needed
        waiting += needed
    return found


def component(package, checksums):
    reference = f"pkg:cargo/{package['name']}@{package['version']}"
    described = {
        "type": "library",
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
        "purl": reference,
    }
    if package["license"]:
        described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if package["description"]:
        described["description"] = " ".join(package["description"].split())
    if package["repository"]:
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


def main():
    found = metadata(sys.argv[1])
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == "auth-gateway")
    with open("Cargo.lock", "rb") as lock:
        locked = tomllib.load(lock)["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in locked}
    linked = runtime_dependencies(nodes, root)
    described = {id: component(packages[id], checksums) for id in linked}
    program = described.pop(root) | {"type": "application"}
    references = {id: f"pkg:cargo/{packages[id]['name']}@{packages[id]['version']}" for id in linked}
    # The same source gives the same bytes.
    time = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(sorted(references.values())))}",
        "version": 1,
        "metadata": {"timestamp": time.isoformat().replace("+00:00", "Z"), "component": program},
        "components": sorted(described.values(), key=lambda entry: entry["bom-ref"]),
        "dependencies": sorted(
            (
                {"ref": references[id], "dependsOn": sorted({references[needed] for needed in linked[id]})}
                for id in linked
            ),
            key=lambda entry: entry["ref"],
        ),
    }
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
