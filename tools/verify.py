#!/usr/bin/env python3
"""Checks softntk against an independent float64 computation.

Weights, signs and data go to the program as NPY files; its outputs, losses and Gram matrices come back from run.h5. The computation
here shares nothing with the engine: networks are written in NumPy, and the Jacobian is taken by complex-step differentiation
(Squire, Trapp, SIAM Review 40, 1998: exact to rounding), not by the formulas for the gradient that the engine uses.

    tools/verify.py --softntk build/release/softntk [--backend NAME]... [--json]

Exit status 0 if every comparison is within its bound, 77 where there is no device for cuda, 1 otherwise. SPDX-License-Identifier: MIT
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np

# Relative bounds: float64 to rounding accumulated over the steps; float32 as documented for the displacement form.
BOUNDS = {"f64": 1e-10, "f32": 2e-5}


def network(activation, scale, x, w, a):
    """F (n x p) for inputs x (n x d), weights w (d x m, real or complex), signs a (p x m)."""
    m = w.shape[1]
    z = x @ w
    if activation == "softmax":
        e = np.exp(z - z.real.max(axis=1, keepdims=True))
        f = (e @ a.T) / e.sum(axis=1, keepdims=True)
        s = m if scale == "paper" else np.sqrt(m)
    elif activation == "exp":
        f = np.exp(z) @ a.T
        s = 1.0 if scale == "paper" else 1.0 / np.sqrt(m)
    else:
        f = np.where(z.real > 0, z, 0) @ a.T
        s = 1.0 / np.sqrt(m)
    return s * f


def jacobian(activation, scale, x, w, a):
    """J ((n p) x (d m)), rows i + n l, by a complex step in each weight."""
    d, m = w.shape
    step = 1e-30
    rows = np.empty((x.shape[0] * a.shape[0], d * m))
    for k, r in itertools.product(range(d), range(m)):
        moved = w.astype(complex)
        moved[k, r] += 1j * step
        rows[:, k * m + r] = network(activation, scale, x, moved, a).imag.T.ravel() / step
    return rows


def kernel_scale(activation, scale, m):
    if activation == "softmax":
        return m if scale == "paper" else 1.0
    return 1.0 if scale == "ntk" or activation == "relu" else float(m)


def descend(activation, scale, x, y, w, a, eta, steps):
    """Losses at each step, F and W at the end."""
    losses = []
    for step in range(steps + 1):
        f = network(activation, scale, x, w, a)
        losses.append(0.5 * np.sum((f - y) ** 2))
        if step < steps:
            gradient = jacobian(activation, scale, x, w, a).T @ (f - y).T.ravel()
            w = w - eta * gradient.reshape(w.shape)
    return np.array(losses), f, w


def relative(got, want):
    return float(np.linalg.norm(np.asarray(got) - want) / np.linalg.norm(want))


def run(softntk, command, directory, settings):
    out = directory / f"out{len(list(directory.glob('out*')))}"
    line = [softntk, command, "--quiet", "--out", str(out)]
    for key, value in settings.items():
        line += ["--set", f"{key}={value}"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode == 3 and settings["backend"] == "cuda":
        print(f"skipped: {done.stderr.strip()}")
        sys.exit(77)
    if done.returncode != 0:
        sys.exit(f"{' '.join(line)}\nexit {done.returncode}: {done.stderr}")
    return h5py.File(out / "run.h5", "r")


def case(softntk, directory, activation, scale, form, backend, precision, n, d, p, m, seed, steps=12):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1).max()
    y = rng.uniform(-1, 1, (n, p)) / np.sqrt(p)
    w = rng.standard_normal((d, m))
    a = rng.choice([-1.0, 1.0], (p, m))
    if scale == "paper":
        # float32 keeps W to 2^-24; compare with the same network, so that the figure is the engine's own error
        w = w.astype(np.float32).astype(float)
    arrays = {"x": x, "y": y, "w": w, "a": a}
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    settings = {
        "network.activation": activation, "network.scale": scale, "network.form": form, "network.outputs": p,
        "network.weights": directory / "w.npy", "network.signs": directory / "a.npy",
        "data.source": "npy", "data.inputs": directory / "x.npy", "data.labels": directory / "y.npy", "data.normalize": "none",
        "backend": backend, "precision": precision,
    }
    j = jacobian(activation, scale, x, w, a)
    q = kernel_scale(activation, scale, m)
    eigenvalues = np.linalg.eigvalsh(j @ j.T)
    eta = 1.0 / eigenvalues[-1]
    with run(softntk, "ntk", directory, {k: v for k, v in settings.items() if k != "network.form"}) as h5:
        errors = {"gram": relative(h5["gram"][:], j @ j.T / q),
                  "lambda_max": relative(h5["eigenvalues"][-1], eigenvalues[-1] / q)}
    losses, f, w_end = descend(activation, scale, x, y, w, a, eta, steps)
    train = {**settings, "train.steps": steps, "train.eta": repr(float(eta)), "train.tolerance": 0, "save.weights": "true"}
    with run(softntk, "train", directory, train) as h5:
        errors["loss"] = relative(h5["history/loss"][:], losses)
        errors["output"] = relative(h5["output"][:], f)
        errors["weights"] = relative(h5["weights"][:], w_end)
        signs_equal = bool(np.array_equal(h5["signs"][:], a))
    return errors, signs_equal


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--softntk", required=True, help="the program")
    parser.add_argument("--backend", action="append", choices=("ref", "cpu", "cuda"), help="repeatable; default ref and cpu")
    parser.add_argument("--json", action="store_true", help="a JSON object a case")
    options = parser.parse_args()
    failures, worst = 0, {"f64": 0.0, "f32": 0.0}
    combinations = [(backend, precision, form)
                    for backend, precision, form in itertools.product(options.backend or ("ref", "cpu"), ("f64", "f32"), ("plain", "displacement"))
                    if not (backend == "ref" and (form == "displacement" or precision == "f32"))]
    shapes = [(7, 3, 1, 20), (5, 4, 3, 33)]
    for (backend, precision, form), activation, scale in itertools.product(combinations, ("softmax", "relu", "exp"), ("ntk", "paper")):
        if precision == "f32" and form == "plain" and scale == "paper":
            continue  # plain float32 does not resolve the updates of the paper's scale: that is what the displacement form is for
        for seed, (n, d, p, m) in enumerate(shapes):
            with tempfile.TemporaryDirectory() as directory:
                errors, signs_equal = case(options.softntk, pathlib.Path(directory), activation, scale, form, backend, precision, n, d, p, m, seed)
            good = signs_equal and all(error <= BOUNDS[precision] for error in errors.values())
            failures += not good
            worst[precision] = max(worst[precision], *errors.values())
            record = {"backend": backend, "precision": precision, "form": form, "activation": activation, "scale": scale,
                      "n": n, "d": d, "p": p, "m": m, "ok": good, **{k: float(f"{v:.2e}") for k, v in errors.items()}}
            if options.json or not good:
                print(json.dumps(record))
    for precision, error in worst.items():
        print(f"{precision}: largest relative error {error:.2e}, bound {BOUNDS[precision]:.0e}")
    print("failed:" if failures else "all within bounds:", failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
