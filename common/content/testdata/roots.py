#!/usr/bin/env python3
"""Prints vectors/roots.json: BEP 52 once more, by recursion over the padded list
of leaves, sharing no code and no idea with the package that it checks."""
import hashlib, json

LEAF = 16384
KIB = 1024


def sha(data):
    return hashlib.sha256(data).digest()


def root(nodes):
    """The root of a list of nodes whose length is a power of two."""
    if len(nodes) == 1:
        return nodes[0]
    half = len(nodes) // 2
    return sha(root(nodes[:half]) + root(nodes[half:]))


def leaves(content):
    """The leaf layer, padded to a power of two."""
    found = [sha(content[i:i + LEAF]) for i in range(0, len(content), LEAF)] or [sha(b"")]
    while len(found) & (len(found) - 1):
        found.append(bytes(32))
    return found


def piece_hashes(content, piece_length):
    """The layer at piece_length, without the nodes that cover padding alone; none for one piece."""
    count = -(-len(content) // piece_length)
    if count <= 1:
        return []
    layer, per_piece = leaves(content), piece_length // LEAF
    return [root(layer[i * per_piece:(i + 1) * per_piece]) for i in range(count)]


def default_piece_length(length):
    """64 KiB, doubled until there are at most 1,024 pieces (no vector is longer)."""
    size = 64 * KIB
    while length > size * 1024:
        size *= 2
    return size


lengths = {0, 1, LEAF - 1, LEAF, LEAF + 1, 5 * KIB * KIB + 3}
for power in range(15, 21):
    lengths |= {2**power - 1, 2**power, 2**power + 1}

vectors = []
for length in sorted(lengths):
    content = (bytes(range(251)) * (length // 251 + 1))[:length]
    for piece_length in (None, 16 * KIB, 64 * KIB, KIB * KIB):
        size = piece_length or default_piece_length(length)
        hashes = piece_hashes(content, size)
        vectors.append({
            "total_length": length, "piece_length": size, "default": piece_length is None,
            "full_hash": root(leaves(content)).hex(),
            "piece_hashes_count": len(hashes),
            "piece_hashes_sha256": sha(b"".join(hashes)).hex() if hashes else None,
        })

print(json.dumps({
    "format": "byte i of the content is i modulo 251. default: piece_length is the default one for the length. "
              "piece_hashes_sha256: SHA-256 of the piece hashes one behind the other, as bytes; null where there is one piece, "
              "which has no piece hashes.",
    "source": "testdata/roots.py: a recursive implementation of BEP 52 in Python that shares no code with this one",
    "vectors": vectors,
}, indent=1))
