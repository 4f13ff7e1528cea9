#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""For the command-line tests: reads the program's JSON and writes NPY files, with the standard library alone.

    records.py lines FILE [KIND]       how many JSON objects, one a line (of a kind); fails on anything else in the file
    records.py keys FILE KIND KEY...   fails unless each object of the kind has the keys, and there is one
    records.py get FILE KEY [KIND]     the values of a key, one a line; a dotted key goes into objects (run.json too)
    records.py same FILE...            the lines without what may differ between identical runs: *_seconds, *_time, crc32
    records.py ids FILE...             kind and id of each line, sorted; fails where one is there twice
    records.py npy FILE ROWS COLS TYPE VALUE...  a matrix, '<f4', '<f8' or '<i8'; row-major
"""

import json
import struct
import sys


def strict(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("a key is there twice: %s" % keys)
    return dict(pairs)


def no_constant(text):
    raise ValueError("%s is not JSON" % text)


def parse(text):
    return json.loads(text, object_pairs_hook=strict, parse_constant=no_constant)


def objects(path):
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    if text.startswith("{\n"):  # run.json: one object over many lines
        return [parse(text)]
    if text and not text.endswith("\n"):
        raise ValueError("%s: the last line has no end" % path)
    result = [parse(line) for line in text.splitlines()]
    for value in result:
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            raise ValueError("%s: not an object with a kind: %r" % (path, value))
    return result


def varies(key):
    return key == "crc32" or key.endswith("_seconds") or key.endswith("_time")


def lines(path, kind=None):
    print(sum(kind in (None, value["kind"]) for value in objects(path)))


def keys(path, kind, *wanted):
    found = [value for value in objects(path) if value.get("kind", kind) == kind]
    if not found:
        raise ValueError("%s: no object of kind %s" % (path, kind))
    for value in found:
        missing = [key for key in wanted if key not in value]
        if missing:
            raise ValueError("%s: %s lacks %s: %s" % (path, kind, missing, value))


def get(path, key, kind=None):
    for value in objects(path):
        if kind not in (None, value.get("kind")):
            continue
        for part in key.split("."):
            value = value[part]
        print(value if isinstance(value, str) else "%.17g" % value if isinstance(value, float) else json.dumps(value))


def same(*paths):
    for path in paths:
        for value in objects(path):
            print(json.dumps({key: value[key] for key in value if not varies(key)}))


def ids(*paths):
    found = sorted((value["kind"], value["id"]) for path in paths for value in objects(path))
    for before, after in zip(found, found[1:]):
        if before == after:
            raise ValueError("%s is there twice" % (before,))
    for kind, name in found:
        print(kind, name)


def npy(path, rows, cols, kind, *values):
    header = "{'descr': '%s', 'fortran_order': False, 'shape': (%s, %s), }" % (kind, rows, cols)
    header += " " * (-(len(header) + 11) % 64) + "\n"
    numbers = [int(v) if kind[1] == "i" else float(v) for v in values]
    if len(numbers) != int(rows) * int(cols):
        raise ValueError("%d values for %s x %s" % (len(numbers), rows, cols))
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        stream.write(struct.pack("<%d%s" % (len(numbers), {"<f4": "f", "<f8": "d", "<i8": "q"}[kind]), *numbers))


if __name__ == "__main__":
    try:
        {f.__name__: f for f in (lines, keys, get, same, ids, npy)}[sys.argv[1]](*sys.argv[2:])
    except (ValueError, KeyError, OSError) as error:
        sys.exit("records.py: %s" % error)
