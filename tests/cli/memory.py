#!/usr/bin/env python3
"""What --dry-run says of memory, against what the run then takes: the peak of the process's resident set, as time(1) and
Slurm's MaxRSS count it. Both ways: |figure - peak| <= 25% of the peak + 32 MB. SPDX-License-Identifier: MIT

Usage: memory.py SOFTNTK quick|long [NAME...]
"""
import array
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

MB = 1000 * 1000
SHARE, SLACK = 0.25, 32 * MB


def case(name, command, *sets, threads=2, precision="f32", backend="cpu", quick=False):
    return dict(name=name, command=command, sets=sets, threads=threads, precision=precision, backend=backend, quick=quick)


def shape(n, d, p, m=None, activation="softmax", source="sphere", **more):
    keys = [f"data.source={source}", f"data.samples={n}", f"data.dim={d}", f"network.outputs={p}",
            f"network.activation={activation}"]
    if source == "npy":
        keys = [k for k in keys if not k.startswith("data.dim")]
    if m:
        keys.append(f"network.width={m}")
    return keys + [f"{key.replace('__', '.')}={value}" for key, value in more.items()]


# Arrays of small numbers, or of signs, by name: rows, columns.
FILES = {"w.npy": (128, 2**17), "x.npy": (2**16, 128), "few.npy": (64, 128), "s.npy": (1, 2**17)}


def write_files():
    for name, (rows, columns) in FILES.items():
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}".encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        seven = array.array("d", [1 - 2 * (j % 2) if name == "s.npy" else 0.01 * (j + 1) for j in range(7)]).tobytes()
        with open(name, "wb") as f:
            f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
            for _ in range(rows):
                f.write((seven * (columns // 7 + 1))[:8 * columns])


STEPS = ["train.steps=2", "train.tolerance=0"]
ETA = STEPS + ["train.eta=1e-6"]
NO_EIGEN = ["ntk.eigenvalues=false"]

CASES = [
    case("train small", "train", *shape(64, 16, 1, 256), *STEPS, quick=True),
    case("train wide f32 paired", "train", *shape(32, 128, 1, 2**19), *ETA, quick=True),
    case("train wide f32 iid", "train", *shape(32, 128, 1, 2**19, network__init="iid"), *ETA),
    case("train wide f64", "train", *shape(32, 128, 1, 2**19), *ETA, precision="f64"),
    case("train wide f32 plain", "train", *shape(32, 128, 1, 2**19, network__form="plain"), *ETA),
    case("train auto eta", "train", *shape(8, 512, 2, 2**16), *STEPS),
    case("train auto eta f64", "train", *shape(8, 512, 2, 2**15), *STEPS, precision="f64", threads=1),
    case("train many samples", "train", *shape(2**17, 128, 4, 64), *ETA, quick=True),
    case("train many samples f64", "train", *shape(2**17, 64, 8, 64), *ETA, precision="f64", threads=1),
    case("train kernel f32", "train", *shape(1500, 16, 2, 1024, train__kernel_every=1000), *ETA),
    case("train kernel f64", "train", *shape(1500, 16, 1, 1024, train__kernel_every=1000), *ETA, precision="f64"),
    case("train kernel plain", "train", *shape(1500, 16, 1, 512, train__kernel_every=1000, network__form="plain"), *ETA,
         quick=True),
    case("train theory", "train", *shape(1500, 16, 1, 4096, train__eta="theory"), *STEPS),
    case("train held out", "train", *shape(512, 64, 2, 512, data__test_samples=2**16), *ETA, quick=True),
    case("train linearized", "train", *shape(600, 16, 2, 512, data__test_samples=900, train__linearized="true"), *ETA),
    case("train linearized f64", "train", *shape(600, 16, 1, 512, data__test_samples=900, train__linearized="true",
                                                 train__kernel_every=1000), *ETA, precision="f64", threads=1, quick=True),
    case("train ref", "train", *shape(16, 256, 1, 2**17), *ETA, backend="ref"),
    case("train ref kernel", "train", *shape(48, 16, 1, 512, train__kernel_every=1000), *ETA, backend="ref"),
    case("ntk small", "ntk", *shape(64, 16, 1, 2**14), quick=True),
    case("ntk full f32", "ntk", *shape(3000, 16, 1, 1024), *NO_EIGEN),
    case("ntk full f64", "ntk", *shape(3000, 16, 1, 512), *NO_EIGEN, precision="f64"),
    case("ntk full f64 one thread", "ntk", *shape(1500, 16, 2, 512), *NO_EIGEN, precision="f64", threads=1, quick=True),
    case("ntk full eigenvalues", "ntk", *shape(1500, 16, 1, 512)),
    case("ntk full lanczos", "ntk", *shape(3000, 16, 1, 512, ntk__solver="lanczos")),
    case("ntk outputs", "ntk", *shape(400, 16, 8, 512), *NO_EIGEN),
    case("ntk trace", "ntk", *shape(2500, 16, 4, 512, ntk__matrix="trace"), *NO_EIGEN),
    case("ntk trace f64", "ntk", *shape(2500, 16, 4, 512, ntk__matrix="trace"), *NO_EIGEN, precision="f64"),
    case("ntk diagonal", "ntk", *shape(2**16, 64, 2, 64, ntk__matrix="diagonal")),
    case("ntk blocks", "ntk", *shape(4000, 16, 1, 256, ntk__matrix="blocks", ntk__block=1000, ntk__pairs="[0,0,1,0]")),
    case("ntk blocks f64", "ntk", *shape(2000, 16, 2, 256, ntk__matrix="blocks", ntk__block=600, ntk__pairs="[0,0,1,0]"),
         precision="f64", quick=True),
    case("ntk one block", "ntk", *shape(2000, 16, 1, 256, ntk__matrix="blocks", ntk__block=2000), quick=True),
    case("ntk blocks without limit", "ntk", *shape(2400, 16, 1, 256, ntk__matrix="blocks", ntk__block=800,
         ntk__infinite="false")),
    case("ntk infinite", "ntk", *shape(3500, 16, 1), *NO_EIGEN),
    case("ntk infinite eigenvalues", "ntk", *shape(2000, 16, 1)),
    case("ntk infinite outputs", "ntk", *shape(2500, 16, 3), *NO_EIGEN, quick=True),
    case("ntk prefixes", "ntk", *shape(2000, 16, 1, 1024, ntk__prefixes="true", ntk__min_prefix=256), *NO_EIGEN),
    case("ntk stored", "ntk", *shape(32, 256, 1, 2**18, network__form="displacement")),
    case("ntk streamed", "ntk", *shape(64, 64, 1, 2**20), *NO_EIGEN),
    case("ntk saved weights", "ntk", *shape(16, 512, 1, 2**15, save__weights="true"), *NO_EIGEN, quick=True),
    case("ntk ref", "ntk", *shape(1500, 4, 1, 8), *NO_EIGEN, backend="ref"),
    case("perturb small", "perturb", *shape(64, 16, 1, 256), "perturb.radii=[0.01]", quick=True),
    case("perturb squares", "perturb", *shape(1200, 16, 1, 256), "perturb.radii=[0.01]", "perturb.ascent_steps=1", *ETA),
    case("perturb squares f64", "perturb", *shape(400, 16, 2, 32), "perturb.radii=[0.01]", "perturb.ascent_steps=1", *ETA,
         precision="f64", quick=True),
    case("perturb random alone", "perturb", *shape(1500, 16, 1, 256), "perturb.radii=[0.01]", "perturb.training=false",
         "perturb.adversarial=false"),
    case("perturb wide", "perturb", *shape(16, 256, 1, 2**16), "perturb.radii=[0.01]", "perturb.ascent_steps=1", *ETA),
    case("perturb wide training", "perturb", *shape(16, 256, 1, 2**17), "perturb.radii=[0.01]", "perturb.adversarial=false",
         *ETA),
    case("perturb region", "perturb", *shape(500, 16, 2, 128, perturb__convex_region="true"), "perturb.radii=[]",
         "perturb.resolution=0.9", "perturb.max_radius=0.01", "perturb.training=false", "perturb.adversarial=false", quick=True),
    case("perturb relu", "perturb", *shape(800, 16, 1, 4096, activation="relu"), "perturb.radii=[0.01]",
         "perturb.ascent_steps=1", *ETA, threads=1),
    case("perturb ref", "perturb", *shape(60, 4, 1, 64), "perturb.radii=[0.01]", "perturb.ascent_steps=1", *ETA,
         backend="ref", quick=True),
    case("perturb given weights", "perturb", *shape(64, 128, 1, source="npy", data__inputs="few.npy", data__targets="random",
         network__weights="w.npy", network__signs="s.npy"), "perturb.radii=[0.01]", "perturb.adversarial=false", *ETA),
    case("train given weights", "train", *shape(64, 128, 1, source="npy", data__inputs="few.npy", data__targets="random",
         network__weights="w.npy", network__signs="s.npy"), *ETA),
    case("train given inputs", "train", *shape(2**16, 128, 1, 64, source="npy", data__inputs="x.npy",
         data__targets="random"), *ETA),
    case("ntk given weights", "ntk", *shape(64, 128, 1, source="npy", data__inputs="few.npy", data__targets="random",
         network__weights="w.npy", network__signs="s.npy"), *NO_EIGEN),
    case("width small", "width", *shape(32, 8, 1), "width.max_width=64", *ETA, quick=True),
    case("width that ends early", "width", *shape(64, 64, 1), "train.steps=500", "train.tolerance=0.01", quick=True),
    case("width to the end", "width", *shape(32, 64, 1), "width.max_width=131072", *ETA),
    case("width squares", "width", *shape(1500, 16, 1), "width.min_width=1024", "width.max_width=1024", *ETA),
    case("width squares f64", "width", *shape(1200, 16, 1), "width.min_width=256", "width.max_width=512", *ETA,
         precision="f64", quick=True),
    case("width wide", "width", *shape(32, 128, 1), "width.min_width=262144", "width.max_width=524288", *ETA),
    case("sweep train", "sweep", *shape(64, 128, 1), "grid.network.width=[1024,262144,2048]", *ETA),
    case("sweep ntk", "sweep", *[k for k in shape(1, 16, 1, 256) if "samples" not in k], "grid.data.samples=[500,2000,1000]",
         "sweep.command=ntk", *NO_EIGEN, quick=True),
]


def arguments(softntk, c):
    sets = [a for s in c["sets"] for a in ("--set", s)]
    return [softntk, c["command"], "--backend", c["backend"], "--threads", str(c["threads"]),
            "--precision", c["precision"], *sets]


def planned(softntk, c):
    done = subprocess.run(arguments(softntk, c) + ["--dry-run", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{c['name']}: --dry-run: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])["memory_bytes"]


def peak(softntk, c, out):
    """Peak resident bytes of the run (ru_maxrss is in KiB)."""
    child = subprocess.Popen(arguments(softntk, c) + ["--out", out, "--quiet"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{c['name']}: exit {child.returncode}: {error.strip()}")
    return usage.ru_maxrss * 1024


def main():
    softntk, kind, names = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    chosen = [c for c in CASES if (c["name"] in names if names else kind == "long" or c["quick"])]
    os.environ.update(OMP_WAIT_POLICY="passive")
    failed = 0
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    try:
        write_files()
        for c in chosen:
            began = time.monotonic()
            figure, taken = planned(softntk, c), peak(softntk, c, "run")
            shutil.rmtree("run")
            wrong = abs(figure - taken) > SHARE * taken + SLACK
            failed += wrong
            print(f"{'FAILED' if wrong else 'ok':6} {figure / MB:8.1f} MB planned {taken / MB:8.1f} MB taken "
                  f"{figure / taken - 1:+7.1%} {time.monotonic() - began:6.1f} s  {c['name']}", flush=True)
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    if failed or not chosen:
        sys.exit(f"{failed} of {len(chosen)} figures are not within {SHARE:.0%} + {SLACK // MB} MB of what the run took")


main()
