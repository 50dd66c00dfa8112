#!/usr/bin/env python3
"""What is linked into the program, on standard output: as a CycloneDX document, each crate with its version, licence and checksum; or
the texts of their licences.

Usage: deploy/packages/sbom.py [--texts]   (in the sources; the document's time is SOURCE_DATE_EPOCH)

By `cargo tree`, which knows the features that the program is built with, and Cargo.lock. Nothing is asked of the network. Macros,
build scripts and what tests need are not in the program and not listed.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import uuid
from pathlib import Path

PROGRAM = "client-failover"


def cargo(*words):
    return subprocess.run(["cargo", *words], check=True, capture_output=True, text=True).stdout


def machine():
    """The target of this machine, in Rust's words."""
    said = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"^host: (\S+)", said, re.MULTILINE).group(1)


def linked_crates():
    """The program, what it is linked from, and what each of these needs itself."""
    tree = cargo("tree", "--locked", "--package", PROGRAM, "--edges", "normal,no-proc-macro", "--target", machine(),
                 "--prefix", "depth", "--format", " {p}", "--no-dedupe")
    linked, children, way = [], {}, []
    for line in tree.splitlines():
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        crate = (name, version)
        del way[int(depth):]
        if way:
            children.setdefault(way[-1], set()).add(crate)
        way.append(crate)
        linked.append(crate)
    return linked[0], sorted(set(linked[1:])), children


def packages():
    """What the manifests say, by name and version."""
    found = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", machine()))["packages"]
    return {(package["name"], package["version"]): package for package in found}


def print_document():
    with open("Cargo.lock", "rb") as file:
        sums = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.load(file)["package"]}
    described = packages()
    program, linked, children = linked_crates()
    reference = lambda crate: f"pkg:cargo/{crate[0]}@{crate[1]}"

    def component(crate, kind="library"):
        # The registry's older way to write a choice.
        licence = " ".join(described[crate]["license"].replace("/", " OR ").split())
        sum = [{"alg": "SHA-256", "content": sums[crate]}] if sums.get(crate) else []
        return {"type": kind, "bom-ref": reference(crate), "name": crate[0], "version": crate[1], "purl": reference(crate),
                "licenses": [{"expression": licence}], **({"hashes": sum} if sum else {})}

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": when, "component": component(program, "application")},
        "components": [component(crate) for crate in linked],
        "dependencies": [{"ref": reference(crate), "dependsOn": sorted(map(reference, children.get(crate, ())))} for crate in [program, *linked]],
    }
    # A number of its own, and the same for the same content.
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))}"
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    print(f"sbom: {len(linked)} components", file=sys.stderr)


def print_texts():
    """Each text once, under the names of all that come under it."""
    described = packages()
    texts, without = {}, []
    for crate in linked_crates()[1]:
        package = described[crate]
        if not package["source"]:
            continue
        name = f"{crate[0]} {crate[1]} ({package['license']})"
        files = [file for file in sorted(Path(package["manifest_path"]).parent.iterdir())
                 if re.match(r"(?i)(un)?licen[sc]e|copying|copyright|notice", file.name) and file.is_file()]
        for file in files:
            text = file.read_text(errors="replace").strip("\n")
            texts.setdefault(" ".join(text.split()), (text, []))[1].append(name)
        without += [] if files else [name]
    print("The program is linked from these libraries, under these licences.")
    for text, names in sorted(texts.values(), key=lambda found: found[1]):
        print(f"\n{'=' * 78}\n\n" + "\n".join(sorted(set(names))) + f"\n\n{'-' * 78}\n\n{text}")
    print(f"\n{'=' * 78}\n\nWithout a text of their own:\n\n" + "\n".join(without))


if sys.argv[1:] == ["--texts"]:
    print_texts()
elif not sys.argv[1:]:
    print_document()
else:
    sys.exit("usage: deploy/packages/sbom.py [--texts]")
