#!/usr/bin/env python3
"""The same work by the tools that one would otherwise take, timed alternately with the engine.

    bench/peers/compare.py [--softntk build/release/softntk] [--threads 2] [--rounds 5] [--quick] [--json FILE] [--markdown FILE]

Makes a virtual environment (--venv, default build/peers) with the peers, and runs in it. Results are first compared with a float64 NumPy
computation: what does not match is not timed, and the exit status is 1. Each peer runs in a process of its own for each case.
SPDX-License-Identifier: MIT
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REPEAT = 3  # timed runs of a peer in a round
AT_LEAST = 1.0  # seconds of runs in a round
MEMORY = 20 << 30  # of a peer, at most
START_SECONDS = {"step": 300, "gram": 180}  # to load, compile and run every way a few times
RUN_SECONDS = {"step": 120, "gram": 60}
VERIFY_WIDTH = 4096
BOUNDS = {"float32": 1e-4, "float64": 1e-10}  # relative, Frobenius: F, the update of W, H

# What is installed, in which environment, by which pip arguments.
INDEX = os.environ.get("SOFTNTK_TORCH_INDEX")
PACKAGES = {
    "base": ("", [["numpy", "h5py", "threadpoolctl"]]),
    "torch": ("", [["torch", *(["--index-url", INDEX] if INDEX else [])]]),
    "jax": ("", [["jax"]]),
    # Its last release needs a JAX of its own age; without dependencies, since TensorFlow is for a part that is not used.
    "neural-tangents": ("neural-tangents", [["jax==0.4.23", "jaxlib==0.4.23", "numpy<2", "scipy<1.13", "frozendict"],
                                            ["--no-deps", "neural-tangents==0.6.5"]]),
}
NEEDS = {"PyTorch": "torch", "torch": "torch", "JAX": "jax", "neural-tangents": "neural-tangents", "NumPy": "base"}


def case(kind, n, d, m, p=1, dtype="float32", forms=("plain",)):
    return {"kind": kind, "n": n, "d": d, "m": m, "p": p, "dtype": dtype, "forms": forms}


CASES = [
    case("step", 1024, 8, 65536), case("step", 1024, 32, 65536, forms=("plain", "displacement")), case("step", 1024, 64, 65536),
    case("step", 1024, 128, 65536), case("step", 1024, 64, 65536, dtype="float64"), case("step", 16, 2, 10**7),
    case("step", 8192, 64, 1024), case("step", 1024, 32, 65536, p=64), case("gram", 1024, 32, 65536),
]
QUICK = [case("step", 64, 8, 512, p=2, forms=("plain", "displacement")), case("gram", 64, 8, 512)]


def title(c):
    return f"{c['kind']} n={c['n']} d={c['d']} p={c['p']} m={c['m']}" + (" f64" if c["dtype"] == "float64" else "")


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- environments ----


def interpreter(venv, package):
    return venv / PACKAGES[package][0] / "bin" / "python"


def install(venv, package):
    """Once; the reason of a failure is left in a file beside the environment's own."""
    folder, steps = PACKAGES[package]
    done, failed = (venv / f"softntk-{package}.{end}" for end in ("done", "failed"))
    if done.exists() and done.read_text() == json.dumps(steps):
        return
    failed.unlink(missing_ok=True)
    say(f"installing {package}" + (": about 3 GB with the CUDA libraries that its Linux wheels load; SOFTNTK_TORCH_INDEX=URL names "
                                   "an index of CPU wheels instead" if package == "torch" and not INDEX else ""))
    try:
        if not interpreter(venv, package).with_name("pip").exists():
            subprocess.run([sys.executable, "-m", "venv", venv / folder], check=True, capture_output=True, text=True)
        for arguments in steps:
            subprocess.run([interpreter(venv, package), "-m", "pip", "install", "--quiet", "--no-cache-dir", *arguments],
                           check=True, capture_output=True, text=True)
        done.write_text(json.dumps(steps))
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr + error.stdout).splitlines() if line.strip() and not line.startswith("WARNING")]
        failed.write_text(lines[-1] if lines else f"exit {error.returncode}")


def enter(venv):
    """Goes on in the environment; everything in it is installed by then, or its failure on record."""
    if pathlib.Path(sys.prefix).resolve() == venv:
        return
    venv.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        install(venv, package)
    reason = missing(venv, "base")
    if reason:
        sys.exit(f"numpy and h5py cannot be installed into {venv} (Debian: python3-venv): {reason}")
    os.execv(interpreter(venv, "base"), [str(interpreter(venv, "base")), *sys.argv])


def missing(venv, package):
    failed = venv / f"softntk-{package}.failed"
    return failed.read_text() if failed.exists() else None


def package_of(peer):
    return next(package for start, package in NEEDS.items() if peer.startswith(start))


def versions(venv, softntk):
    ask = ("import importlib.metadata as m, json; print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))")
    out = {"softntk": subprocess.run([softntk, "--version"], capture_output=True, text=True).stdout.strip().removeprefix("softntk "),
           "python": platform.python_version()}
    for package, names in (("base", ("numpy", "torch", "jax")), ("neural-tangents", ("neural-tangents", "jax"))):
        if missing(venv, package) or not interpreter(venv, package).exists():
            continue
        have = json.loads(subprocess.run([interpreter(venv, package), "-c", ask], capture_output=True, text=True).stdout)
        for name in names:
            out[name if name not in out else f"{name} of {package}"] = have.get(name, "none")
    import numpy  # noqa: F401  (loads its BLAS)
    import threadpoolctl

    blas = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    out["BLAS of numpy"] = " ".join(f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in blas)
    return out


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {len(os.sched_getaffinity(0))} processors used, {memory:.0f} GiB, Linux {platform.release()}"


# ---- the engine ----


class EngineError(Exception):
    pass


class Engine:
    def __init__(self, softntk, threads):
        self.softntk, self.threads = softntk, threads

    def run(self, arguments, **options):
        done = subprocess.run([self.softntk, *map(str, arguments), "--threads", str(self.threads)], capture_output=True, text=True, **options)
        if done.returncode:
            raise EngineError(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def bench(self, c, form, width):
        """One call, several seconds of runs: the program's own JSON."""
        precision = "f64" if c["dtype"] == "float64" else "f32"
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(self.run(
                ["bench", c["kind"], "--json", "--samples", c["n"], "--dim", c["d"], "--outputs", c["p"], "--width", width,
                 "--precision", precision, "--form", form], cwd=folder))

    def results(self, c, form, folder, data):
        """F and W after one step, or H, from the given numbers."""
        import h5py
        import numpy as np

        settings = {"network.activation": "softmax", "network.scale": "ntk", "network.outputs": c["p"], "data.source": "npy",
                    "data.normalize": "none", "backend": "cpu", "precision": "f64" if c["dtype"] == "float64" else "f32"}
        for key, name in (("network.weights", "w"), ("network.signs", "a"), ("data.inputs", "x"), ("data.labels", "y")):
            np.save(folder / f"{name}.npy", data[name].astype(float))
            settings[key] = folder / f"{name}.npy"
        if c["kind"] == "step":
            settings.update({"network.form": form, "train.steps": 1, "train.eta": repr(float(data["eta"])), "train.tolerance": 0,
                             "save.weights": "true"})
        out = folder / f"out-{form}"
        self.run(["train" if c["kind"] == "step" else "ntk", "--quiet", "--out", out,
                  *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))])
        with h5py.File(out / "run.h5", "r") as h5:
            return {"h": h5["gram"][:]} if c["kind"] == "gram" else {"f_after": h5["output"][:], "w": h5["weights"][:]}


# ---- a peer's process ----


class Worker:
    def __init__(self, venv, peer, c, threads):
        available = next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
        memory = min(MEMORY, int(available) << 10)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}  # workarounds for old builds cost new ones time
        environment.update({f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")})
        environment.update({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore",
                            "TORCHINDUCTOR_CACHE_DIR": str(venv / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"})
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [interpreter(venv, package_of(peer)), HERE / "worker.py", peer, json.dumps({**c, "threads": threads, "memory": memory})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1, env=environment)

    def ask(self, seconds, **command):
        """The answer; RuntimeError with a reason for a report, after which the process is gone."""
        answer = None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
        if select.select([self.process.stdout], [], [], seconds)[0]:
            line = self.process.stdout.readline()
            answer = json.loads(line) if line else {"error": self.epitaph()}
        reason = f"more than {seconds} s" if answer is None else answer.get("error")
        if reason:
            self.close()
            raise RuntimeError(reason)
        return answer

    def epitaph(self):
        status = self.process.wait()
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        return f"killed by signal {-status}" if status < 0 else (lines[-1][:200] if lines else f"exit {status}")

    def close(self):
        self.process.kill()
        self.process.wait()


# ---- verification ----


def reference(c, data):
    """The formulas in float64. eta is chosen here: a step moves W by a tenth of its norm, so that the update can be checked."""
    import numpy as np

    x, y, w, a = (data[name].astype(float) for name in ("x", "y", "w", "a"))

    def forward(w):
        z = x @ w
        s = np.exp(z - z.max(axis=1, keepdims=True))
        s /= s.sum(axis=1, keepdims=True)
        return s, s @ a.T

    scale = np.sqrt(w.shape[1])
    s, f = forward(w)
    if c["kind"] == "gram":
        u = scale * s * (a - f)
        return {"h": (x @ x.T) * (u @ u.T)}
    residual = scale * f - y
    gradient = x.T @ (scale * s * (residual @ a - np.sum(residual * f, axis=1, keepdims=True)))
    data["eta"] = 0.1 * np.linalg.norm(w) / np.linalg.norm(gradient)
    after = w - data["eta"] * gradient
    return {"f": scale * f, "w": after, "f_after": scale * forward(after)[1]}


def errors(got, want, data):
    """Relative, by name; of W's update, not of W."""
    import numpy as np

    base = {"w": data["w"].astype(float)}
    return {name: float(np.linalg.norm(got[name].astype(float) - want[name]) / np.linalg.norm(want[name] - base.get(name, 0))) for name in got}


class Verifier:
    """One case's numbers and what they should give. Records every error."""

    def __init__(self, c, folder):
        from worker import make_data

        self.case, self.folder, self.record = c, folder, {}
        self.data = dict(zip(("x", "y", "w", "a"), make_data(c, min(c["m"], VERIFY_WIDTH))), eta=0.0)
        self.want = reference(c, self.data)

    def check(self, who, got):
        import numpy as np

        found = errors(got, self.want, self.data)
        self.record[who] = found
        if not all(np.isfinite(e) and e <= BOUNDS[self.case["dtype"]] for e in found.values()):
            raise AssertionError(", ".join(f"{name} off by {e:.1e}" for name, e in found.items()))

    def engine(self, engine):
        for form in self.case["forms"]:
            self.check(f"engine {form}", engine.results(self.case, form, self.folder, self.data))

    def peer(self, name, worker):
        import numpy as np

        file = self.folder / "data.npz"
        if not file.exists():
            np.savez(file, **self.data)
        for way, path in worker.ask(START_SECONDS["step"], do="verify", file=str(file))["files"].items():
            with np.load(path) as got:
                self.check(f"{name} {way}", dict(got))


# ---- a case ----


def start(venv, peer, c, threads, verifier):
    """A verified, warm worker and what it runs; a Gram matrix beyond the limits is tried at half the width, and so on."""
    width, beyond = c["m"], {}
    while True:
        worker = Worker(venv, peer, c, threads)
        try:
            if width == c["m"]:
                verifier.peer(peer, worker)
            ready = worker.ask(START_SECONDS[c["kind"]], do="start", width=width)
            if ready["seconds"] > RUN_SECONDS[c["kind"]]:
                raise RuntimeError(f"{ready['seconds']:.0f} s a run")
            return worker, {"width": width, "way": ready["way"], "rounds": [], **beyond}
        except RuntimeError as error:
            worker.close()
            if c["kind"] == "step" or width <= 256 or f"{peer} run" not in verifier.record:
                raise
            width //= 2
            beyond = {"reason": f"runs at m={width}; at twice that: {error}"}
        except BaseException:
            worker.close()
            raise


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    q = statistics.quantiles(values, n=4, method="inclusive")
    return q[0], q[2]


def summarize_peer(entry):
    flat = [t for seconds in entry["rounds"] for t in seconds]
    q1, q3 = quartiles(flat)
    entry.update(median_ms=1e3 * statistics.median(flat), q1_ms=1e3 * q1, q3_ms=1e3 * q3)


def summarize_row(row, peers):
    calls = row["engine"]

    def middle(key):
        return statistics.median(call[key] for call in calls) if calls[0].get(key) is not None else None

    row.update(median_ms=1e3 * middle("median_s"), q1_ms=1e3 * middle("q1_s"), q3_ms=1e3 * middle("q3_s"),
               bound_share=middle("bound_share"), syrk_share=middle("syrk_share"))
    here = {name: p for name, p in peers.items() if p.get("width") == row["width"] and len(p.get("rounds", ())) == len(calls)}
    if here:
        fastest = [min(statistics.median(p["rounds"][i]) for p in here.values()) for i in range(len(calls))]
        ratios = [f / call["median_s"] for f, call in zip(fastest, calls)]
        row.update(fastest=min(here, key=lambda name: here[name]["median_ms"]), ratio=statistics.median(ratios),
                   ratio_low=min(ratios), ratio_high=max(ratios))


def run_case(c, engine, venv, rounds, folder):
    """Verifies, then times by turns. Returns the case's record; mismatches are in it."""
    from worker import PEERS

    say(title(c))
    verifier = Verifier(c, folder)
    record = {"case": title(c), **c, "peers": {}, "rows": [], "errors": verifier.record, "mismatches": []}
    try:
        verifier.engine(engine)
    except AssertionError as error:
        record["mismatches"].append(f"softntk: {error}")
        return record
    workers = {}
    try:
        for peer in PEERS[c["kind"]]:
            reason = missing(venv, package_of(peer))
            entry = record["peers"][peer] = {"reason": f"not available: {reason}"} if reason else {}
            if reason:
                continue
            began = time.monotonic()
            try:
                workers[peer], how = start(venv, peer, c, engine.threads, verifier)
                entry.update(how)
            except AssertionError as error:
                record["mismatches"].append(f"{peer}: {error}")
                entry["reason"] = f"mismatch: {error}"
            except RuntimeError as error:
                entry["reason"] = f"skipped: {error}"
            say(f"  {peer}: {entry.get('reason') or entry['way'] or 'ready'} ({time.monotonic() - began:.0f} s)")
        widths = sorted({c["m"], *(entry["width"] for entry in record["peers"].values() if "width" in entry)}, reverse=True)
        record["rows"] = [{"form": form, "width": width, "engine": []} for width in widths for form in c["forms"]]
        for _ in range(rounds):
            for row in record["rows"]:
                row["engine"].append(engine.bench(c, row["form"], row["width"]))
            for peer in list(workers):
                entry = record["peers"][peer]
                try:
                    entry["rounds"].append(workers[peer].ask((REPEAT + 1) * RUN_SECONDS[c["kind"]] + 60, do="time", repeat=REPEAT, at_least=AT_LEAST)["seconds"])
                except RuntimeError as error:
                    workers.pop(peer).close()
                    del entry["rounds"]
                    entry["reason"] = f"skipped: {error}"
    finally:
        for worker in workers.values():
            worker.close()
    for entry in record["peers"].values():
        if entry.get("rounds"):
            summarize_peer(entry)
    for row in record["rows"]:
        summarize_row(row, record["peers"])
    return record


# ---- the report ----


def number(value):
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def table(records, kind):
    from worker import PEERS

    names = list(PEERS[kind])
    share = "share of bound" + (" (of U U^T alone)" if kind == "gram" else "")
    lines = ["| " + " | ".join(["case", "softntk ms (quartiles)", share, *(f"{name} ms" for name in names), "fastest peer / softntk (range)"]) + " |",
             "| --- |" + " ---: |" * (len(names) + 3)]
    for record in records:
        for row in record["rows"]:
            label = record["case"].replace(f"m={record['m']}", f"m={row['width']}") + (f" {row['form']}" if row["form"] != "plain" else "")
            of_bound = "" if row["bound_share"] is None else f"{row['bound_share']:.2f}"
            if row["syrk_share"] is not None:
                of_bound += f" ({row['syrk_share']:.2f})"
            cells = [label, f"{number(row['median_ms'])} ({number(row['q1_ms'])}, {number(row['q3_ms'])})", of_bound]
            for name in names:
                entry = record["peers"][name]
                here = entry.get("width") == row["width"] and "median_ms" in entry
                cells.append(number(entry["median_ms"]) if here else "")
            cells.append(f"**{row['ratio']:.2f}** ({row['ratio_low']:.2f}, {row['ratio_high']:.2f}), {row['fastest']}" if "ratio" in row else "")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(result):
    lines = []
    for kind, heading in (("step", "A step of descent"), ("gram", "A Gram matrix")):
        records = [record for record in result["cases"] if record["kind"] == kind and record["rows"]]
        lines += [f"### {heading}", "", *table(records, kind), ""] if records else []
    worst = {dtype: max((e for r in result["cases"] if r["dtype"] == dtype for found in r["errors"].values() for e in found.values()), default=None)
             for dtype in BOUNDS}
    lines += [f"{result['machine']}; {result['threads']} threads; {result['date']}; {result['rounds']} rounds.",
              "Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + ".",
              "Largest relative error before timing: " + ", ".join(
                  f"{dtype} {e:.1e} (bound {BOUNDS[dtype]:.0e})" for dtype, e in worst.items() if e is not None) + ".", ""]
    for record in result["cases"]:
        lines += [f"- {record['case']}: MISMATCH, {text}" for text in record["mismatches"]]
        lines += [f"- {record['case']}: {name} {entry['reason']}" for name, entry in record["peers"].items() if "reason" in entry]
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--softntk", default=ROOT / "build/release/softntk", help="the program")
    parser.add_argument("--venv", default=ROOT / "build/peers", help="environment with the peers, made if it is not there")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny widths, one round: does everything work?")
    parser.add_argument("--case", type=int, action="append", help="only this one, from 0 (repeatable)")
    parser.add_argument("--json", help="file for every number")
    parser.add_argument("--markdown", help="file for the table; it goes to standard output anyway")
    options = parser.parse_args()
    venv, softntk = pathlib.Path(options.venv).resolve(), pathlib.Path(options.softntk).resolve()
    if not softntk.exists():
        sys.exit(f"{softntk} is not there: build it, or name it by --softntk")
    enter(venv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # of every process below
    result = {"machine": machine(), "date": datetime.date.today().isoformat(), "threads": options.threads,
              "rounds": 1 if options.quick else options.rounds, "versions": versions(venv, softntk), "cases": []}
    say(", ".join(f"{name} {version}" for name, version in result["versions"].items()))
    cases = QUICK if options.quick else CASES
    for c in [cases[i] for i in options.case] if options.case else cases:
        with tempfile.TemporaryDirectory() as folder:
            try:
                result["cases"].append(run_case(c, Engine(softntk, options.threads), venv, result["rounds"], pathlib.Path(folder)))
            except EngineError as error:
                sys.exit(f"{title(c)}: softntk {error}")
        if options.json:  # after each case: a run that is stopped leaves what it has
            pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(result)
    print(text, end="")
    if options.markdown:
        pathlib.Path(options.markdown).write_text(text)
    return 1 if any(record["mismatches"] for record in result["cases"]) else 0


if __name__ == "__main__":
    sys.exit(main())
