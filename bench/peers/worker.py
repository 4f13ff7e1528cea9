"""One peer at one case: a process that compare.py drives by lines of JSON on standard input and output.

A step of descent, with s = sqrt(m):
    S = softmax(X W), f = S A^T, F = s f, R = F - Y, G = s S o (R A - rowsum(R o f)), W <- W - eta X^T G
and the Gram matrix for one output:
    H = X X^T o U U^T, U = s S o (A - f).
A peer is a class; its `ways` are methods that do one whole run, finished when they return. Each way is verified, the fastest is timed.
Libraries are imported where they are used, so that a missing one costs only its own peers. SPDX-License-Identifier: MIT
"""

import json
import os
import resource
import sys
import time

import numpy as np

TIMED_ETA = 1e-6  # the numbers stay where they are, as in the engine's own benchmark
CACHE_BYTES = 1 << 20  # of a samples x block array in the second cache: interpreters that work operation by operation
COMPILED_BYTES = 1 << 24  # of one where calls cost more than the caches save: found best for compiled blocks


def make_data(case, width):
    """Points of norm 1, targets in [-1, 1], normal weights, random signs: the same at every call."""
    rng = np.random.default_rng(1)
    n, d, p, real = case["n"], case["d"], case["p"], case["dtype"]
    x = rng.standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.uniform(-1, 1, (n, p))
    w = rng.standard_normal((d, width), dtype=real)
    a = 2 * rng.integers(0, 2, (p, width), dtype=np.int8) - 1
    return x.astype(real), y.astype(real), w, a.astype(real)


class Peer:
    ways = ("run",)

    def __init__(self, case):
        self.case = case
        self.prepare()

    def prepare(self):
        pass

    def load(self, x, y, w, a, eta):
        self.x, self.y, self.w, self.a, self.eta = x, y, w, a, eta
        self.n, self.m, self.s = x.shape[0], w.shape[1], float(np.sqrt(w.shape[1]))

    def block(self, size):
        """Neurons a block: a divisor of m, so that compiled code meets one shape only."""
        most = min(self.m, max(64, size // (self.n * np.dtype(self.case["dtype"]).itemsize)))
        return next(b for b in range(most, 0, -1) if self.m % b == 0)

    def slices(self, size):
        block = self.block(size)
        return [slice(at, at + block) for at in range(0, self.m, block)]

    def factors(self, f, total):
        """F, and r and c of G = e o (r A - c): s and the softmax's sum are folded into them, not into arrays n x m."""
        outputs = self.s * f
        r = outputs - self.y
        c = (r * f).sum(1, keepdims=True)
        return outputs, r * (self.s / total), c * (self.s / total)

    def result(self):
        return {"f": np.asarray(self.f), "w": np.asarray(self.w)}


# ---- NumPy ----


class NumPyStep(Peer):
    ways = ("plain", "blocks")

    def load(self, *data):
        super().load(*data)
        self.buffers = None

    def signed(self, r, a, out):
        return np.multiply(r, a, out=out) if len(a) == 1 else np.matmul(r, a, out=out)

    def plain(self):
        if self.buffers is None:
            self.buffers = np.empty((2, self.n, self.m), self.x.dtype)
        e, g = self.buffers
        np.matmul(self.x, self.w, out=e)
        e -= e.max(axis=1, keepdims=True)
        np.exp(e, out=e)
        total = e.sum(axis=1, keepdims=True)
        self.f, r, c = self.factors((e @ self.a.T) / total, total)
        self.signed(r, self.a, g)
        g -= c
        g *= e
        self.w -= self.eta * (self.x.T @ g)

    def blocks(self):
        """Blocks of neurons stay in the cache; logits and exponentials are made twice."""
        slices = self.slices(CACHE_BYTES)
        e, g = np.empty((2, self.n, slices[0].stop), self.x.dtype)
        top, total, f = np.full((self.n, 1), -np.inf, self.x.dtype), 0, 0
        for at in slices:
            np.matmul(self.x, self.w[:, at], out=e)
            higher = np.maximum(top, e.max(axis=1, keepdims=True))
            e -= higher
            np.exp(e, out=e)
            shrink, top = np.exp(top - higher), higher
            total, f = total * shrink + e.sum(axis=1, keepdims=True), f * shrink + e @ self.a[:, at].T
        self.f, r, c = self.factors(f / total, total)
        for at in slices:
            np.matmul(self.x, self.w[:, at], out=e)
            e -= top
            np.exp(e, out=e)
            self.signed(r, self.a[:, at], g)
            g -= c
            g *= e
            self.w[:, at] -= self.eta * (self.x.T @ g)


class Gram(Peer):
    def result(self):
        return {"h": np.asarray(self.h).reshape(self.n, self.n)}


class NumPyGram(Gram):
    def run(self):
        e = self.x @ self.w
        e -= e.max(axis=1, keepdims=True)
        np.exp(e, out=e)
        total = e.sum(axis=1, keepdims=True)
        u = self.a - (e @ self.a.T) / total
        u *= e
        scale = self.s / total
        self.h = (self.x @ self.x.T) * (u @ u.T) * (scale * scale.T)  # NumPy takes U U^T for the rank update that it is


# ---- PyTorch ----


class Torch(Peer):
    def prepare(self):
        import torch

        torch.set_num_threads(self.case["threads"])
        self.torch = torch

    def load(self, x, y, w, a, eta):
        super().load(*(self.torch.from_numpy(array.copy()) for array in (x, y, w, a)), eta)

    def loss(self, w, x, y, a):
        outputs = self.s * (self.torch.softmax(x @ w, dim=1) @ a.T)
        return 0.5 * ((outputs - y) ** 2).sum(), outputs

    def descend(self, loss, w):
        """By automatic differentiation: loss(w, x, y, a) gives the loss and F."""
        w.requires_grad_()
        value, outputs = loss(w, self.x, self.y, self.a)
        (gradient,) = self.torch.autograd.grad(value, w)
        w.requires_grad_(False).sub_(gradient, alpha=self.eta)
        self.f = outputs.detach()


class TorchEager(Torch):
    def run(self):
        self.descend(self.loss, self.w)


class TorchByHand(Torch):
    """The gradient by the formula, in arrays that are kept from run to run: no time goes into new pages."""

    ways = ("plain", "blocks")

    def load(self, *data):
        super().load(*data)
        self.buffers = None

    def plain(self):
        torch = self.torch
        if self.buffers is None:
            self.buffers = self.x.new_empty((2, self.n, self.m))
        z, s = self.buffers
        torch.mm(self.x, self.w, out=z)
        torch.softmax(z, 1, out=s)
        self.f, r, c = self.factors(s @ self.a.T, 1)
        torch.addmm(-c, r, self.a, out=z)
        z.mul_(s)
        self.w.addmm_(self.x.T, z, alpha=-self.eta)

    def blocks(self):
        torch, slices = self.torch, self.slices(CACHE_BYTES)
        e, g = self.x.new_empty((2, self.n, slices[0].stop))
        top, total, f = self.x.new_full((self.n, 1), -torch.inf), self.x.new_zeros((self.n, 1)), torch.zeros_like(self.y)
        for at in slices:
            torch.mm(self.x, self.w[:, at], out=e)
            higher = torch.maximum(top, e.amax(1, keepdim=True))
            e.sub_(higher).exp_()
            shrink, top = (top - higher).exp_(), higher
            total.mul_(shrink).add_(e.sum(1, keepdim=True))
            f.mul_(shrink).addmm_(e, self.a[:, at].T)
        self.f, r, c = self.factors(f / total, total)
        for at in slices:
            torch.mm(self.x, self.w[:, at], out=e).sub_(top).exp_()
            torch.addmm(-c, r, self.a[:, at], out=g).mul_(e)
            self.w[:, at].addmm_(self.x.T, g, alpha=-self.eta)


class TorchCompile(Torch):
    ways = ("autograd", "blocks")

    def prepare(self):
        super().prepare()
        torch = self.torch

        def forward(x, w, a, top, total, f):
            z = x @ w
            higher = torch.maximum(top, z.amax(1, keepdim=True))
            e, shrink = torch.exp(z - higher), torch.exp(top - higher)
            return higher, total * shrink + e.sum(1, keepdim=True), f * shrink + e @ a.T

        def gradient(x, w, a, top, r, c):
            return x.T @ (torch.exp(x @ w - top) * ((r * a if len(a) == 1 else r @ a) - c))

        self.compiled_loss, self.forward, self.gradient = (
            torch.compile(function, dynamic=False) for function in (self.loss, forward, gradient))

    def autograd(self):
        self.descend(self.compiled_loss, self.w)

    def blocks(self):
        slices = self.slices(COMPILED_BYTES)
        top, total, f = self.x.new_full((self.n, 1), -self.torch.inf), self.x.new_zeros((self.n, 1)), self.torch.zeros_like(self.y)
        for at in slices:
            top, total, f = self.forward(self.x, self.w[:, at], self.a[:, at], top, total, f)
        self.f, r, c = self.factors(f / total, total)
        for at in slices:
            self.w[:, at].sub_(self.gradient(self.x, self.w[:, at], self.a[:, at], top, r, c), alpha=self.eta)


class TorchAttention(Torch):
    """Softmax over neurons as attention: queries X, keys W^T, values A^T. The fused kernel wants one head size, so the smaller of d and p is
    filled with zeros; its gradient runs one thread a batch entry, so the second way gives the samples to as many entries as threads."""

    ways = ("one", "split")

    def load(self, *data):
        super().load(*data)
        pad, d, p = self.torch.nn.functional.pad, self.x.shape[1], self.y.shape[1]
        self.size = max(d, p)
        self.queries = pad(self.x, (0, self.size - d))
        self.values = pad(self.a.T, (0, self.size - p)).contiguous()
        self.keys = self.w.T.contiguous()

    def attend(self, batch):
        functional, d, p = self.torch.nn.functional, self.x.shape[1], self.y.shape[1]

        def loss(keys, x, y, a):
            wide = functional.pad(keys, (0, self.size - d)) if self.size > d else keys
            q, k, v = (t.expand(batch, 1, -1, -1) for t in (self.queries.reshape(batch, 1, -1, self.size), wide, self.values))
            out = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
            outputs = self.s * out.reshape(self.n, self.size)[:, :p]
            return 0.5 * ((outputs - y) ** 2).sum(), outputs

        self.descend(loss, self.keys)

    def one(self):
        self.attend(1)

    def split(self):
        self.attend(self.case["threads"] if self.n % self.case["threads"] == 0 else 1)

    def result(self):
        return {"f": self.f.numpy(), "w": self.keys.T.numpy()}


class TorchGram(Torch, Gram):
    def run(self):
        s = self.torch.softmax(self.x @ self.w, 1)
        u = (self.a - s @ self.a.T).mul_(s)
        self.h = (self.x @ self.x.T) * (u @ u.T) * self.m


class TorchJacobian(Torch, Gram):
    """J J^T with J by torch.func: needs no formula, stores n x (d m)."""

    def run(self):
        torch = self.torch

        def output(w, x):
            return self.s * torch.dot(torch.softmax(x @ w, 0), self.a[0])

        j = torch.func.vmap(torch.func.grad(output), (None, 0))(self.w, self.x).reshape(self.n, -1)
        self.h = j @ j.T


# ---- JAX ----


class Jax(Peer):
    def prepare(self):
        import jax

        jax.config.update("jax_enable_x64", self.case["dtype"] == "float64")
        self.jax, self.compiled = jax, {}

    def load(self, x, y, w, a, eta):
        super().load(*(self.jax.numpy.array(array) for array in (x, y, w, a)), eta)
        self.compiled = {}  # eta and s are constants of the compiled code

    def go(self, function, *arguments, **options):
        """Compiled at the first call, finished when it returns."""
        if function not in self.compiled:
            self.compiled[function] = self.jax.jit(function, **options)
        return self.jax.block_until_ready(self.compiled[function](*arguments))


class JaxStep(Jax):
    ways = ("autograd", "blocks")

    def autograd(self):
        self.f, self.w = self.go(self.by_autograd, self.w, self.x, self.y, self.a, donate_argnums=0)

    def blocks(self):
        self.f, self.w = self.go(self.in_blocks, self.w, self.x, self.y, self.a, donate_argnums=0)

    def by_autograd(self, w, x, y, a):
        def loss(w):
            outputs = self.s * (self.jax.nn.softmax(x @ w, axis=1) @ a.T)
            return 0.5 * ((outputs - y) ** 2).sum(), outputs

        (_, outputs), gradient = self.jax.value_and_grad(loss, has_aux=True)(w)
        return outputs, w - self.eta * gradient

    def in_blocks(self, w, x, y, a):
        np, scan, size = self.jax.numpy, self.jax.lax.scan, self.block(COMPILED_BYTES)
        d, p = x.shape[1], y.shape[1]
        parts = tuple(array.reshape(-1, self.m // size, size).transpose(1, 0, 2) for array in (w, a))

        def forward(carry, part):
            top, total, f = carry
            z = x @ part[0]
            higher = np.maximum(top, z.max(1, keepdims=True))
            e, shrink = np.exp(z - higher), np.exp(top - higher)
            return (higher, total * shrink + e.sum(1, keepdims=True), f * shrink + e @ part[1].T), None

        start = np.full((self.n, 1), -np.inf, x.dtype), np.zeros((self.n, 1), x.dtype), np.zeros((self.n, p), x.dtype)
        (top, total, f), _ = scan(forward, start, parts)
        outputs, r, c = self.factors(f / total, total)

        def update(_, part):
            g = np.exp(x @ part[0] - top) * ((r * part[1] if p == 1 else r @ part[1]) - c)
            return None, part[0] - self.eta * (x.T @ g)

        _, w = scan(update, None, parts)
        return outputs, w.transpose(1, 0, 2).reshape(d, self.m)


class JaxGram(Jax, Gram):
    def run(self):
        self.h = self.go(self.gram, self.x, self.w, self.a)

    def gram(self, x, w, a):
        s = self.jax.nn.softmax(x @ w, axis=1)
        u = s * (a - s @ a.T)
        return (x @ x.T) * (u @ u.T) * self.m


class NeuralTangents(Jax, Gram):
    """The library's fastest implementation here: it finds by itself that the Jacobian of a product is an outer product."""

    def prepare(self):
        import types

        sys.modules["neural_tangents.experimental"] = types.ModuleType("experimental")  # the only part that needs TensorFlow
        import neural_tangents

        super().prepare()
        self.nt = neural_tangents

    def run(self):
        self.h = self.go(self.gram, self.x, self.w, self.a)

    def gram(self, x, w, a):
        def output(w, x):
            return self.s * (self.jax.nn.softmax(x @ w, axis=-1) @ a.T)

        kernel = self.nt.empirical_ntk_fn(output, trace_axes=(-1,), vmap_axes=0,
                                          implementation=self.nt.NtkImplementation.STRUCTURED_DERIVATIVES)
        return kernel(x, None, w)


PEERS = {
    "step": {"NumPy": NumPyStep, "PyTorch eager": TorchEager, "PyTorch by hand": TorchByHand, "torch.compile": TorchCompile,
             "PyTorch SDPA": TorchAttention, "JAX": JaxStep},
    "gram": {"NumPy": NumPyGram, "PyTorch": TorchGram, "JAX": JaxGram, "neural-tangents": NeuralTangents,
             "torch.func Jacobian": TorchJacobian},
}


# ---- commands ----


def verify(peer, data):
    """Results of one run of every way from the given numbers, into a file each."""
    files = {}
    with np.load(data["file"]) as given:
        for way in peer.ways:
            peer.load(*(given[name].copy() for name in ("x", "y", "w", "a")), float(given["eta"]))
            getattr(peer, way)()
            files[way] = f"{data['file']}.{way}.npz"
            np.savez(files[way], **peer.result())
    return {"files": files}


def once(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def start(peer, width):
    """Loads the case, warms up every way and settles on the fastest; a way that fails where another works is left out."""
    peer.load(*make_data(peer.case, width), TIMED_ETA)
    best, failed = {}, None
    for way in peer.ways:
        run = getattr(peer, way)
        try:
            best[way] = once(run)
            if len(peer.ways) > 1:
                best[way] = min(once(run), once(run))
        except Exception as error:
            best.pop(way, None)
            failed = error
            peer.load(*make_data(peer.case, width), TIMED_ETA)  # what it had begun, or given away
    if not best:
        raise failed
    way = min(best, key=best.get)
    peer.buffers = None  # those of a way that is not timed
    peer.run_timed = getattr(peer, way)
    return {"way": way if len(peer.ways) > 1 else "", "seconds": once(peer.run_timed)}


def timed(run, repeat, at_least):
    """Seconds of at least `repeat` runs that take `at_least` seconds together, after one that wakes threads and fills caches (slow runs do without)."""
    first = once(run)
    seconds = [first] if first > 5.0 else []
    while len(seconds) < repeat or sum(seconds) < at_least and len(seconds) < 200:
        seconds.append(once(run))
    return seconds


def main():
    name, case = sys.argv[1], json.loads(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (case["memory"], case["memory"]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            peer = peer or PEERS[case["kind"]][name](case)
            if command["do"] == "verify":
                answer = verify(peer, command)
            elif command["do"] == "start":
                answer = start(peer, command["width"])
            else:
                answer = {"seconds": timed(peer.run_timed, command["repeat"], command["at_least"])}
        except Exception as error:
            text = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {text[0]}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
