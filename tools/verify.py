#!/usr/bin/env python3
"""Checks softntk against an independent float64 computation.

Weights, signs and data go to the program as NPY files; its outputs, losses and Gram matrices come back from run.h5, its figures from
points.jsonl. The computation here shares nothing with the engine: networks are written in NumPy, and the Jacobian is taken by
complex-step differentiation (Squire, Trapp, SIAM Review 40, 1998: exact to rounding), not by the formulas for the gradient that the
engine uses. Perturbations and the limit of infinite width belong to weights that the program draws: it saves them, before training and
after, and the direction that training took is made of the two.

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
SIGMA = 0.8  # of drawn weights; given ones have another deviation, which only exp_normalized's factor and the limit would tell
HELD_OUT = 2  # samples behind those that are trained on
RADIUS = 0.3  # far enough that relu's neurons cross their jumps


def network(activation, scale, x, w, a):
    """F (n x p) for inputs x (n x d), weights w (d x m, real or complex), signs a (p x m)."""
    m = w.shape[1]
    z = x @ w
    if activation == "softmax":
        e = np.exp(z - z.real.max(axis=1, keepdims=True))
        f = (e @ a.T) / e.sum(axis=1, keepdims=True)
        s = m if scale == "paper" else np.sqrt(m)
    elif activation in ("exp", "exp_normalized"):
        f = np.exp(z) @ a.T
        if activation == "exp_normalized":  # over E exp(x . w), w ~ N(0, SIGMA^2 I)
            f = f * np.exp(-0.5 * SIGMA**2 * np.sum(x * x, axis=1, keepdims=True))
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


def infinite_kernel(activation, x):
    """H at infinite width, one output's block: E of the product of two neurons' features, in closed form."""
    k = x @ x.T
    square = np.diag(k)
    if activation == "relu":
        rho = np.clip(k / np.sqrt(np.outer(square, square)), -1, 1)
        return k * (np.pi - np.arccos(rho)) / (2 * np.pi)
    exponent = SIGMA**2 * k if activation in ("softmax", "exp_normalized") else 0.5 * SIGMA**2 * (square[:, None] + square[None, :] + 2 * k)
    return k * np.exp(exponent)


def linearized(h, f, y, rate, steps):
    """Outputs at each step of u <- u - rate H (u - y), H over all samples, of which those of y are trained on: (steps + 1) x all x p."""
    n, (total, p) = len(y), f.shape
    rows = h.reshape(p, total, p, total)[:, :, :, :n]  # (output, sample) x (output, trained sample)
    runs = [f]
    for _ in range(steps):
        runs.append(runs[-1] - rate * np.einsum("aibj,jb->ia", rows, runs[-1][:n] - y))
    return np.array(runs)


def loss_of(f, y):
    return 0.5 * np.sum((f - y) ** 2, axis=(-2, -1))


def descend(activation, scale, x, y, w, a, eta, steps):
    """F on all samples at each step, and W at the end; the first len(y) samples are trained on."""
    n = len(y)
    outputs = []
    for step in range(steps + 1):
        outputs.append(network(activation, scale, x, w, a))
        if step < steps:
            gradient = jacobian(activation, scale, x[:n], w, a).T @ (outputs[-1][:n] - y).T.ravel()
            w = w - eta * gradient.reshape(w.shape)
    return np.array(outputs), w


def relative(got, want):
    return float(np.linalg.norm(np.asarray(got) - want) / np.linalg.norm(want))


def run(softntk, command, directory, settings):
    """run.h5 (None for a command without) and the records."""
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
    arrays = {}
    if (out / "run.h5").exists():
        with h5py.File(out / "run.h5", "r") as h5:
            h5.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    with open(out / "points.jsonl", encoding="utf-8") as lines:
        return arrays, [json.loads(line) for line in lines]


def write_data(directory, rng, n, d, p):
    """Inputs and targets of n samples and the held-out ones, in files, and the settings that name them."""
    x = rng.standard_normal((n + HELD_OUT, d))
    x /= np.linalg.norm(x, axis=1).max()
    y = rng.uniform(-1, 1, (n + HELD_OUT, p)) / np.sqrt(p)
    np.save(directory / "x.npy", x)
    np.save(directory / "y.npy", y)
    return x, y, {
        "network.outputs": p, "network.sigma": SIGMA, "data.source": "npy", "data.inputs": directory / "x.npy",
        "data.labels": directory / "y.npy", "data.normalize": "none", "data.test_samples": HELD_OUT,
    }


def parts(softntk, directory, settings, h, n, p):
    """Errors of the trace, the diagonal and the blocks of H (np x np)."""
    size = 2  # of the ranges; the last one is shorter
    square = h.reshape(p, n, p, n)
    h5, _ = run(softntk, "ntk", directory, {**settings, "ntk.matrix": "trace"})
    errors = {"trace": relative(h5["gram_trace"], np.einsum("aiaj->ij", square))}
    h5, _ = run(softntk, "ntk", directory, {**settings, "ntk.matrix": "diagonal"})
    errors["diagonal"] = relative(h5["gram_diagonal"], np.diag(h))
    h5, points = run(softntk, "ntk", directory, {**settings, "ntk.matrix": "blocks", "ntk.block": size})
    got = np.full_like(square, np.nan)
    for r, c in itertools.combinations_with_replacement(range(-(-n // size)), 2):
        rows, columns = range(n)[size * c:size * (c + 1)], range(n)[size * r:size * (r + 1)]
        block = h5[f"blocks/{c}_{r}"].reshape(p, len(rows), p, len(columns))
        got[np.ix_(range(p), rows, range(p), columns)] = block
        got[np.ix_(range(p), columns, range(p), rows)] = block.transpose(2, 3, 0, 1)
    errors["blocks"] = relative(got, square)
    errors["norm"] = relative(points[-1]["gram_norm"], np.linalg.norm(h))
    return errors


def case(softntk, directory, activation, scale, form, backend, precision, n, d, p, m, seed, steps=12):
    """Given weights: H and its parts, training, the linearized run, held-out samples."""
    rng = np.random.default_rng(seed)
    x, y, settings = write_data(directory, rng, n, d, p)
    w = rng.standard_normal((d, m))
    a = rng.choice([-1.0, 1.0], (p, m))
    if scale == "paper":
        # float32 keeps W to 2^-24; compare with the same network, so that the figure is the engine's own error
        w = w.astype(np.float32).astype(float)
    np.save(directory / "w.npy", w)
    np.save(directory / "a.npy", a)
    settings.update({
        "network.activation": activation, "network.scale": scale, "network.weights": directory / "w.npy",
        "network.signs": directory / "a.npy", "backend": backend, "precision": precision,
    })
    j = jacobian(activation, scale, x, w, a)
    q = kernel_scale(activation, scale, m)
    trained = np.add.outer((n + HELD_OUT) * np.arange(p), np.arange(n)).ravel()  # rows of j
    h_all = j @ j.T / q
    h = h_all[np.ix_(trained, trained)]
    eigenvalues = np.linalg.eigvalsh(h)
    eta = 1.0 / (q * eigenvalues[-1])
    h5, _ = run(softntk, "ntk", directory, settings)
    errors = {"gram": relative(h5["gram"], h), "lambda_max": relative(h5["eigenvalues"][-1], eigenvalues[-1])}
    if form == "plain":  # which ntk does not tell apart
        errors.update(parts(softntk, directory, settings, h, n, p))
    f, w_end = descend(activation, scale, x, y[:n], w, a, eta, steps)
    u = linearized(h_all, f[0], y[:n], eta * q, steps)
    train = {**settings, "network.form": form, "train.steps": steps, "train.eta": repr(float(eta)), "train.tolerance": 0,
             "train.linearized": "true", "save.weights": "true"}
    h5, points = run(softntk, "train", directory, train)
    y_norm, test_norm = np.linalg.norm(y[:n]), np.linalg.norm(y[n:])
    errors["loss"] = relative(h5["history/loss"], loss_of(f[:, :n], y[:n]))
    errors["output"] = relative(h5["output"], f[-1, :n])
    errors["weights"] = relative(h5["weights"], w_end)
    errors["test_output"] = relative(h5["test_output"], f[-1, n:])
    errors["test_loss"] = relative(h5["history/test_loss"], loss_of(f[:, n:], y[n:]))
    errors["loss_linearized"] = relative(h5["history/loss_linearized"], loss_of(u[:, :n], y[:n]))
    errors["test_loss_linearized"] = relative(points[0]["test_loss_linearized"], loss_of(u[-1, n:], y[n:]))
    # distances are small differences of outputs: their error is that of the outputs
    distance = np.linalg.norm(u[:, :n] - f[:, :n], axis=(1, 2)).max() / y_norm
    errors["distance_linearized"] = abs(points[0]["distance_linearized"] - distance)
    errors["test_distance_linearized"] = abs(points[0]["test_distance_linearized"] - np.linalg.norm(u[-1, n:] - f[-1, n:]) / test_norm)
    return errors, bool(np.array_equal(h5["signs"], a))


def drawn_case(softntk, directory, activation, scale, form, backend, n, d, p, m, seed, steps=12):
    """Drawn weights, float64: H there and its limit, the run at infinite width, and moving as training does."""
    rng = np.random.default_rng(100 + seed)
    x, y, settings = write_data(directory, rng, n, d, p)
    settings.update({
        "network.activation": activation, "network.scale": scale, "network.width": m, "network.init": "iid", "seed": 7 + seed,
        "backend": backend, "precision": "f64",
    })
    h5, points = run(softntk, "ntk", directory, {**settings, "save.weights": "true"})
    w, a = h5["weights"], h5["signs"].astype(float)
    q = kernel_scale(activation, scale, m)

    def kernel(at):
        j = jacobian(activation, scale, x[:n], at, a)
        return j @ j.T / q

    h, limit = kernel(w), infinite_kernel(activation, x)
    blocks = np.kron(np.eye(p), limit[:n, :n])
    errors = {"gram": relative(h5["gram"], h), "gram_infinite": relative(h5["gram_infinite"], blocks),
              "infinite_distance": relative(points[0]["infinite_distance"], np.linalg.norm(h - blocks) / np.linalg.norm(blocks))}
    eta = 1.0 / (q * np.linalg.eigvalsh(h)[-1])
    settings.update({"network.form": form, "train.steps": steps, "train.eta": repr(float(eta)), "train.tolerance": 0})
    h5, points = run(softntk, "train", directory, {**settings, "train.linearized": "true", "save.weights": "true"})
    w_end = h5["weights"]
    u = linearized(np.kron(np.eye(p), limit), network(activation, scale, x, w, a), y[:n], eta * q, steps)
    f = network(activation, scale, x, w_end, a)
    errors["loss_infinite"] = relative(h5["history/loss_infinite"], loss_of(u[:, :n], y[:n]))
    errors["test_loss_infinite"] = relative(points[0]["test_loss_infinite"], loss_of(u[-1, n:], y[n:]))
    errors["test_distance_infinite"] = relative(points[0]["test_distance_infinite"], np.linalg.norm(u[-1, n:] - f[n:]) / np.linalg.norm(y[n:]))
    moved = w_end - w
    farthest = np.linalg.norm(moved, axis=0).max()
    h_moved = kernel(w + RADIUS / farthest * moved)
    lambda_min, lambda_moved = np.linalg.eigvalsh(h)[0], np.linalg.eigvalsh(h_moved)[0]
    perturb = {**settings, "perturb.radii": f"[{RADIUS}]", "perturb.random": "false", "perturb.adversarial": "false",
               "perturb.convex_region": "false"}
    _, points = run(softntk, "perturb", directory, perturb)
    point, = points
    errors["weight_movement"] = relative(point["weight_movement"], farthest)
    errors["change"] = relative(point["change"], np.linalg.norm(h_moved - h))
    errors["ratio"] = relative(point["ratio"], np.linalg.norm(h_moved - h) / (RADIUS * n * p))
    # an eigenvalue's error is that of its matrix
    errors["lambda_min"] = abs(point["lambda_min"] - lambda_moved) / np.linalg.norm(h_moved)
    errors["lambda_min_initial"] = abs(point["lambda_min_initial"] - lambda_min) / np.linalg.norm(h)
    errors["lambda_share"] = abs(point["lambda_share"] * point["lambda_min_initial"] - lambda_moved) / np.linalg.norm(h_moved)
    return errors, True


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
    for (backend, precision, form), activation, scale in itertools.product(combinations, ("softmax", "relu", "exp", "exp_normalized"),
                                                                           ("ntk", "paper")):
        if precision == "f32" and form == "plain" and scale == "paper":
            continue  # plain float32 does not resolve the updates of the paper's scale: that is what the displacement form is for
        for (seed, (n, d, p, m)), drawn in itertools.product(enumerate(shapes), (False, True)):
            if drawn and precision == "f32":
                continue  # weights saved in float32 do not resolve where training took them
            with tempfile.TemporaryDirectory() as directory:
                path = pathlib.Path(directory)
                if drawn:
                    errors, signs_equal = drawn_case(options.softntk, path, activation, scale, form, backend, n, d, p, m, seed)
                else:
                    errors, signs_equal = case(options.softntk, path, activation, scale, form, backend, precision, n, d, p, m, seed)
            good = signs_equal and all(error <= BOUNDS[precision] for error in errors.values())
            failures += not good
            worst[precision] = max(worst[precision], *errors.values())
            record = {"backend": backend, "precision": precision, "form": form, "activation": activation, "scale": scale, "drawn": drawn,
                      "n": n, "d": d, "p": p, "m": m, "ok": good, **{k: float(f"{v:.2e}") for k, v in errors.items()}}
            if options.json or not good:
                print(json.dumps(record))
    for precision, error in worst.items():
        print(f"{precision}: largest relative error {error:.2e}, bound {BOUNDS[precision]:.0e}")
    print("failed:" if failures else "all within bounds:", failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
