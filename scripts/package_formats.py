#!/usr/bin/env python3
"""Makes packages out of files that are there: a Debian package, a Python wheel, an OCI image archive, and a
software bill of materials. scripts/package calls it; nothing but Python's standard library is needed.

The same input gives the same bytes: order, times (SOURCE_DATE_EPOCH), owners and modes are fixed.

  package_formats.py deb|wheel|oci ARCH VERSION STAGE OUT     STAGE holds a tree as under /
  package_formats.py sbom ARCH VERSION METADATA OUT           METADATA is what `cargo metadata` prints
"""

import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time
import uuid
import zipfile
from pathlib import Path

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
SUMMARY = "pprof for any running process: an out-of-process sampling profiler"
LICENSE = "MIT OR Apache-2.0"
DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
OCI_ARCH = DEBIAN_ARCH
# A static binary runs with any C library.
WHEEL_TAGS = {
    "x86_64": ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "musllinux_1_1_x86_64"],
    "aarch64": ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "musllinux_1_1_aarch64"],
}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def gzipped(data):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=EPOCH, compresslevel=9) as file:
        file.write(data)
    return out.getvalue()


def tarball(tree):
    """A tar archive of {path: bytes, or None for a folder}; what lies in a bin folder may be executed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(tree):
            data = tree[path]
            entry = tarfile.TarInfo(path)
            entry.mtime = EPOCH
            entry.uname = entry.gname = "root"
            if data is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                entry.size = len(data)
                entry.mode = 0o755 if is_program(path) else 0o644
                archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def is_program(path):
    return Path(path).name == "rprof" and "completions" not in path


def with_folders(tree, prefix=""):
    """The same tree, with an entry for each folder above a file."""
    whole = {}
    for path, data in tree.items():
        for folder in list(Path(path).parents)[:-1]:
            whole.setdefault(f"{prefix}{folder}/", None)
        whole[prefix + path] = data
    return whole


def read_tree(stage):
    files = (path for path in Path(stage).rglob("*") if path.is_file())
    return {str(path.relative_to(stage)): path.read_bytes() for path in files}


def deb(arch, version, stage, out):
    tree = read_tree(stage)
    size = sum(len(data) for data in tree.values()) // 1024
    control = f"""Package: rprof
Version: {version}
Architecture: {DEBIAN_ARCH[arch]}
Maintainer: The rprof authors <rprof@localhost>
Installed-Size: {size}
Section: devel
Priority: optional
Description: {SUMMARY}
 Attaches to live processes without changing or restarting them, and writes
 complete pprof profiles: CPU, off-CPU, page faults, thread dumps, and what Go
 programs know of themselves. One static binary, with its own analyzer.
"""
    sums = "".join(f"{hashlib.md5(tree[path]).hexdigest()}  {path}\n" for path in sorted(tree))
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzipped(
            tarball({"./": None, "./control": control.encode(), "./md5sums": sums.encode()})
        ),
        "data.tar.gz": gzipped(tarball({"./": None, **with_folders(tree, "./")})),
    }
    path = Path(out) / f"rprof_{version}_{DEBIAN_ARCH[arch]}.deb"
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, data in parts.items():
            file.write(f"{name:<16}{EPOCH:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))
    return path


def wheel(arch, version, stage, out):
    binary = (Path(stage) / "usr/bin/rprof").read_bytes()
    info = f"rprof-{version}.dist-info"
    readme = Path("README.md").read_text()
    metadata = f"""Metadata-Version: 2.4
Name: rprof
Version: {version}
Summary: {SUMMARY}
License-Expression: {LICENSE}
License-File: LICENSE-MIT
License-File: LICENSE-APACHE
License-File: LICENSE-graphviz
Keywords: profiler,pprof,perf,flamegraph
Classifier: Environment :: Console
Classifier: Operating System :: POSIX :: Linux
Classifier: Topic :: Software Development :: Debuggers
Description-Content-Type: text/markdown

{readme}"""
    tags = WHEEL_TAGS[arch]
    kinds = "".join(f"Tag: py3-none-{tag}\n" for tag in tags)
    files = {
        f"rprof-{version}.data/scripts/rprof": binary,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: rprof\nRoot-Is-Purelib: false\n{kinds}".encode(),
        f"{info}/licenses/LICENSE-MIT": Path("LICENSE-MIT").read_bytes(),
        f"{info}/licenses/LICENSE-APACHE": Path("LICENSE-APACHE").read_bytes(),
        f"{info}/licenses/LICENSE-graphviz": Path("src/report/graphviz/LICENSE-graphviz").read_bytes(),
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = Path(out) / f"rprof-{version}-py3-none-{'.'.join(tags)}.whl"
    # The format knows no time before 1980.
    when = time.gmtime(max(EPOCH, 315532800))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if is_program(name) else 0o100644) << 16
            archive.writestr(entry, data)
    return path


def oci(arch, version, stage, out):
    """An OCI image layout that is also what `docker load` of any version takes."""
    layer = tarball(
        with_folders(
            {
                "rprof": (Path(stage) / "usr/bin/rprof").read_bytes(),
                "licenses/LICENSE-MIT": Path("LICENSE-MIT").read_bytes(),
                "licenses/LICENSE-APACHE": Path("LICENSE-APACHE").read_bytes(),
                "licenses/LICENSE-graphviz": Path("src/report/graphviz/LICENSE-graphviz").read_bytes(),
            }
        )
        | {"profiles/": None}
    )
    packed = gzipped(layer)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    labels = {
        "org.opencontainers.image.title": "rprof",
        "org.opencontainers.image.description": SUMMARY,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": os.environ.get("RPROF_COMMIT", ""),
        "org.opencontainers.image.licenses": LICENSE,
    }
    config = json.dumps(
        {
            "created": created,
            "architecture": OCI_ARCH[arch],
            "os": "linux",
            "config": {
                "Entrypoint": ["/rprof"],
                "Cmd": ["--help"],
                "WorkingDir": "/profiles",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
            "history": [{"created": created, "created_by": "scripts/package"}],
        },
        sort_keys=True,
    ).encode()

    def described(kind, data):
        return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": described("application/vnd.oci.image.config.v1+json", config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
            "annotations": labels,
        },
        sort_keys=True,
    ).encode()
    entry = described(manifest_type, manifest) | {
        "platform": {"architecture": OCI_ARCH[arch], "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"rprof:{version}"},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    def blob(digest):
        return f"blobs/sha256/{digest}"

    docker = [{"Config": blob(sha256(config)), "RepoTags": [f"rprof:{version}"], "Layers": [blob(sha256(packed))]}]
    files = {blob(sha256(data)): data for data in (config, packed, manifest)}
    files |= {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index, sort_keys=True).encode(),
        "manifest.json": json.dumps(docker, sort_keys=True).encode(),
    }
    path = Path(out) / f"rprof-{version}-{arch}.oci.tar"
    path.write_bytes(tarball(with_folders(files)))
    return path


def sbom(arch, version, metadata, out):
    """CycloneDX 1.5: every crate that is linked in for the target, with its checksum, and the software that
    was compiled to WebAssembly."""
    data = json.loads(Path(metadata).read_text())
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = data["resolve"]["root"]
    checksums = locked_checksums()

    def linked(node):
        for dep in nodes[node]["deps"]:
            kinds = {kind for target in packages[dep["pkg"]]["targets"] for kind in target["kind"]}
            if any(kind["kind"] is None for kind in dep["dep_kinds"]) and "proc-macro" not in kinds:
                yield dep["pkg"]

    seen, todo = set(), [root]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(linked(node))

    def purl(node):
        return f"pkg:cargo/{packages[node]['name']}@{packages[node]['version']}"

    def component(node):
        package = packages[node]
        entry = {
            "type": "library" if node != root else "application",
            "bom-ref": purl(node),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(node),
        }
        if package.get("license"):
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    graphviz = [
        {"type": "library", "bom-ref": "graphviz", "name": "graphviz", "version": "16.1.0",
         "description": "compiled to WebAssembly; see LICENSE-graphviz",
         "licenses": [{"license": {"id": "EPL-1.0"}}]},
        {"type": "library", "bom-ref": "expat", "name": "expat", "version": "2.8.5",
         "description": "within Graphviz", "licenses": [{"license": {"id": "MIT"}}]},
    ]  # fmt: skip
    others = sorted((node for node in seen if node != root), key=purl)
    edges = [{"ref": purl(node), "dependsOn": sorted(map(purl, linked(node)))} for node in sorted(seen, key=purl)]
    next(edge for edge in edges if edge["ref"] == purl(root))["dependsOn"] += ["expat", "graphviz"]
    lock = Path("Cargo.lock").read_bytes()
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, sha256(lock) + arch)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
            "component": component(root),
            "properties": [{"name": "target", "value": f"{arch}-unknown-linux-musl"}],
        },
        "components": [component(node) for node in others] + graphviz,
        "dependencies": edges,
    }
    path = Path(out) / f"rprof-{version}-{arch}.cdx.json"
    path.write_text(json.dumps(bom, indent=1) + "\n")
    return path


def locked_checksums():
    """{(name, version): SHA-256} of Cargo.lock; its tables are written by cargo, a field a line."""
    found, fields = {}, {}
    for line in Path("Cargo.lock").read_text().splitlines() + ["[[package]]"]:
        if line == "[[package]]":
            if "checksum" in fields:
                found[fields["name"], fields["version"]] = fields["checksum"]
            fields = {}
        elif " = " in line:
            key, value = line.split(" = ", 1)
            fields[key] = value.strip('"')
    return found


if __name__ == "__main__":
    makers = {"deb": deb, "wheel": wheel, "oci": oci, "sbom": sbom}
    if len(sys.argv) != 6 or sys.argv[1] not in makers or sys.argv[2] not in DEBIAN_ARCH:
        sys.exit(__doc__)
    print(makers[sys.argv[1]](*sys.argv[2:]))
