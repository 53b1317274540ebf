#!/usr/bin/env python3
"""Writes an OCI layout of one image whose layers hold random bytes, so that no compressor gains anything.

    image.py FOLDER SIZE[,SIZE...] [--seed N]     sizes of the layers in KB; COUNTxSIZE for many of one size

A layer is a real tar in a gzip stream, so that an engine takes it too. It follows from the seed, its number and its size alone:
two images that differ in the size of one layer share all the others.
"""
import argparse
import gzip
import hashlib
import io
import json
import pathlib
import random
import tarfile


def sizes(text):
    for part in text.split(","):
        count, _, size = part.rpartition("x")
        yield from [int(size)] * int(count or 1)


def layer(seed, number, size):
    """The compressed bytes of a layer, and the digest of its tar."""
    content = random.Random(f"{seed} {number}").randbytes(size * 1000)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo(f"layer-{number}")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), compresslevel=0, mtime=0), digest(tar.getvalue())


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("sizes")
    parser.add_argument("--seed", default="0")
    arguments = parser.parse_args()
    blobs = arguments.folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(media_type, data):
        name = digest(data)
        (blobs / name.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": name, "size": len(data)}

    layers, tars = [], []
    for number, size in enumerate(sizes(arguments.sizes)):
        data, tar = layer(arguments.seed, f"{number} {size}", size)
        layers.append(put("layer.v1.tar+gzip", data))
        tars.append(tar)
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": tars}}
    config = put("config.v1+json", json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}
    root = put("manifest.v1+json", json.dumps(manifest).encode())
    root["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (arguments.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    (arguments.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


main()
