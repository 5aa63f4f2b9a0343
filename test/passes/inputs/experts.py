#!/usr/bin/env python3
"""Writes a model with one layer of experts as exporters write it: experts.py FORM [option=value ...]

FORM is `gathered` (weights gathered for each choice), `looped` (every expert on all tokens) or `capacity` (one-hot
tensors). Options: tokens, experts, choices, width, inner, capacity (sizes); load=even|one (with `one` all tokens choose
expert 0 first and none the last); bias=0|1; stored=mn|nm (orientation of the weights); separate=0|1 (one parameter per
expert); column=0|1 (`looped`: weights are columns of a table); end=sum|dot|none (`gathered`: how the choices are added up);
spoil=NAME (something that makes the form mean another thing).
"""
import random
import sys

OPTIONS = dict(tokens=12, experts=4, choices=2, width=6, inner=5, capacity=4, load="even", bias=0, stored="mn", separate=0,
               column=0, end="sum", spoil="")


class Module:
    """Operations with inferred names; types are tuples of sizes with an element type at the end."""

    def __init__(self):
        self.states, self.lines, self.count, self.random = [], [], 0, random.Random(7)

    @staticmethod
    def text(kind):
        return "tensor<" + "x".join(map(str, kind)) + ">"

    def op(self, name, operands, attributes, *kinds):
        self.count += 1
        result = f"%v{self.count}"
        left = result if len(kinds) == 1 else f"{result}:{len(kinds)}"
        results = self.text(kinds[0]) if len(kinds) == 1 else "(" + ", ".join(map(self.text, kinds)) + ")"
        types = ", ".join(self.text(k) for _, k in operands)
        self.lines.append(f"{left} = moe.{name} {', '.join(v for v, _ in operands)} {{{attributes}}} : ({types}) -> {results}")
        return (result, kinds[0]) if len(kinds) == 1 else [(f"{result}#{i}", k) for i, k in enumerate(kinds)]

    def state(self, name, shape, kind="parameter", values=None):
        size = 1
        for n in shape:
            size *= n
        values = values or [round(self.random.uniform(-1, 1), 3) for _ in range(size)]

        def nested(at, dims):
            if not dims:
                return f"{values[at]:.3f}"
            step = 1
            for n in dims[1:]:
                step *= n
            return "[" + ", ".join(nested(at + i * step, dims[1:]) for i in range(dims[0])) + "]"

        tensor = self.text((*shape, "f32"))
        marks = ", moe.counts" if kind == "counting" else ""
        kind = "frozen" if kind == "counting" else kind
        self.states.append(f"moe.state {kind} @{name} : {tensor} {{initial = {{data = dense<{nested(0, shape)}> : {tensor}}}{marks}}}")
        self.count += 1
        self.lines.append(f"%v{self.count} = moe.read @{name} : {tensor}")
        return f"%v{self.count}", (*shape, "f32")

    def splat(self, value, kind):
        number = value if not isinstance(value, float) else f"{value:.6e}"
        return self.op("constant", [], f"value = dense<{number}> : {self.text(kind)}", kind)

    def unary(self, name, a):
        return self.op(name, [a], "", a[1])

    def binary(self, name, a, b):
        assert a[1] == b[1], (name, a, b)
        return self.op(name, [a, b], "", a[1])

    def broadcast(self, a, shape, dims):
        dims = f": {', '.join(map(str, dims))}" if dims else ""
        return self.op("broadcast", [a], f"dims = array<i64{dims}>", (*shape, a[1][-1]))

    def reshape(self, a, shape):
        return self.op("reshape", [a], "", (*shape, a[1][-1]))

    def cast(self, a, element):
        return self.op("cast", [a], f"to = {element}", (*a[1][:-1], element))

    def reduce(self, a, dims, kind=0):
        kept = tuple(n for d, n in enumerate(a[1][:-1]) if d not in dims)
        return self.op("reduce", [a], f"dims = array<i64: {', '.join(map(str, dims))}>, kind = {kind} : i32", (*kept, a[1][-1]))

    def compare(self, a, b, predicate=0):
        return self.op("compare", [a, b], f"predicate = {predicate} : i32", (*a[1][:-1], "i1"))

    def select(self, c, a, b):
        return self.op("select", [c, a, b], "", a[1])

    def slice(self, a, starts, limits):
        ones = ", ".join("1" for _ in starts)
        shape = [l - s for s, l in zip(starts, limits)]
        return self.op("slice", [a], f"starts = array<i64: {', '.join(map(str, starts))}>, limits = array<i64: "
                       f"{', '.join(map(str, limits))}>, strides = array<i64: {ones}>", (*shape, a[1][-1]))

    def dot(self, a, b, a_batch, b_batch, a_contract, b_contract):
        dims = lambda d: "array<i64" + (": " + ", ".join(map(str, d)) if d else "") + ">"
        shape = [a[1][d] for d in a_batch]
        shape += [n for d, n in enumerate(a[1][:-1]) if d not in a_batch and d not in a_contract]
        shape += [n for d, n in enumerate(b[1][:-1]) if d not in b_batch and d not in b_contract]
        return self.op("dot", [a, b], f"lhs_batch = {dims(a_batch)}, rhs_batch = {dims(b_batch)}, lhs_contract = "
                       f"{dims(a_contract)}, rhs_contract = {dims(b_contract)}", (*shape, "f32"))

    def one_hot(self, index, experts):
        """[S] -> [S,E] flags."""
        shape = (*index[1][:-1], experts)
        columns = self.op("iota", [], f"dim = {len(shape) - 1} : i64", (*shape, index[1][-1]))
        return self.compare(self.broadcast(index, shape, range(len(shape) - 1)), columns)


def silu(m, x):
    return m.binary("mul", x, m.unary("sigmoid", x))


def router(m, x, o):
    """Top-k of a softmax: indices [S,K] i64 and weights [S,K] that add up to one."""
    logits = m.dot(x, m.state("gate", (o["experts"], o["width"])), [], [], [1], [1])
    if o["load"] == "one":
        push = [40.0] + [0.0] * (o["experts"] - 2) + [-40.0]
        logits = m.binary("add", logits, m.broadcast(m.state("push", (o["experts"],), "frozen", push), logits[1][:-1], [1]))
    probs = m.unary("softmax", logits)
    values, order = m.op("sort", [probs], "", probs[1], (*probs[1][:-1], "i32"))
    values, order = (m.slice(v, [0, 0], [o["tokens"], o["choices"]]) for v in (values, order))
    total = m.broadcast(m.reduce(values, [1]), values[1][:-1], [0])
    return m.cast(order, "i64"), m.binary("div", values, total)


def weights(m, name, o, rows, columns):
    """[E,rows,columns], or its transposed matrices, as one state or joined from one for each expert."""
    shape = (rows, columns) if o["stored"] == "mn" else (columns, rows)
    if not o["separate"]:
        return m.state(name, (o["experts"], *shape))
    parts = [m.reshape(m.state(f"{name}.{e}", shape), (1, *shape)) for e in range(o["experts"])]
    return m.op("concat", parts, "dim = 0 : i64", (o["experts"], *shape, "f32"))


def gathered(m, x, o):
    S, K, E, M, H = (o[n] for n in ("tokens", "choices", "experts", "width", "inner"))
    T = S * K
    index, weight = router(m, x, o)
    flat = m.reshape(index, (T,))
    wrapped = m.select(m.compare(flat, m.splat(0, flat[1]), 2), m.binary("add", flat, m.splat(E, flat[1])), flat)
    rows = m.reshape(m.broadcast(x, (S, K, M), [0, 2]), (T, M, 1))
    contract = 1 if o["stored"] == "mn" else 2

    def product(name, rows, inner, outer, index):
        table = weights(m, name, o, inner, outer)
        picked = m.op("gather", [table, index], "", (T, *table[1][1:]))
        y = m.reshape(m.dot(picked, rows, [0], [0], [contract], [1]), (T, outer))
        if o["bias"]:
            bias = m.state(f"{name}.bias", (E, outer))
            y = m.binary("add", y, m.op("gather", [bias, index], "", (T, outer, "f32")))
        return y

    h = product("up", rows, M, 2 * H, wrapped)
    h = m.binary("mul", silu(m, m.slice(h, [0, 0], [T, H])), m.slice(h, [0, H], [T, 2 * H]))
    if o["spoil"] == "rsqrt":
        h = m.binary("mul", h, m.unary("rsqrt", m.binary("add", m.binary("mul", h, h), m.splat(0.1, h[1]))))
    other = wrapped
    if o["spoil"] == "index":  # the second product belongs to other experts than the first
        other = m.op("cast", [m.binary("sub", m.splat(E - 1, wrapped[1]), wrapped)], "to = i32", (T, "i32"))
    y = product("down", m.reshape(h, (T, H, 1)), H, M, other)
    if o["end"] == "none":
        return y
    if o["end"] == "dot":
        return m.dot(m.reshape(weight, (S, 1, K)), m.reshape(y, (S, K, M)), [0], [0], [2], [1])
    if o["spoil"] == "weight":  # a weight for each column of a choice, not for each choice
        y = m.binary("mul", y, m.broadcast(m.state("columns", (M,)), (T, M), [1]))
    else:
        y = m.binary("mul", y, m.broadcast(m.reshape(weight, (T,)), (T, M), [0]))
    return m.reduce(m.reshape(y, (S, K, M)), [1])


def looped(m, x, o):
    S, K, E, M, H = (o[n] for n in ("tokens", "choices", "experts", "width", "inner"))
    index, weight = router(m, x, o)
    table = None
    if o["column"]:
        hot = m.cast(m.one_hot(index, E), "f32")
        table = m.reduce(m.binary("mul", m.broadcast(weight, (S, K, E), [0, 1]), hot), [1])
    contract = 0 if o["stored"] == "mn" else 1
    stacked = {} if o["separate"] else {n: weights(m, n, o, *s) for n, s in (("up", (M, H)), ("down", (H, M)))}

    def product(name, e, rows, inner, outer):
        shape = (inner, outer) if o["stored"] == "mn" else (outer, inner)
        if o["separate"]:
            w = m.state(f"{name}.{e}", shape)
        else:
            at = 0 if o["spoil"] == "shared" and name == "down" else e
            w = m.reshape(m.slice(stacked[name], [at, 0, 0], [at + 1, *shape]), shape)
        y = m.dot(rows, w, [], [], [1], [contract])
        if o["bias"]:
            y = m.binary("add", y, m.broadcast(m.state(f"{name}.bias.{e}", (outer,)), (S, outer), [1]))
        return y

    number = m.cast(m.splat(0, ("i64",)), "f32")  # as exporters write zeros_like
    zero = lambda shape: m.broadcast(number, shape, []) if o["bias"] else m.splat(0.0, (*shape, "f32"))
    sum = zero((S, M))
    for e in range(E):
        h = product("up", e, x, M, H)
        h = m.unary("tanh", h) if o["spoil"] == "activation" and e == 1 else silu(m, h)
        y = product("down", e, h, H, M)
        if table:
            w = m.reshape(m.slice(table, [0, e], [S, e + 1]), (S,))
        else:
            flag = m.compare(index, m.splat(e, index[1]), 5 if o["spoil"] == "predicate" and e == 0 else 0)
            if o["bias"]:
                w = m.reduce(m.select(flag, weight, zero((S, K))), [1])
            else:
                w = m.reduce(m.binary("mul", weight, m.cast(flag, "f32")), [1])
        if o["spoil"] == "dense":  # a share of every expert besides
            share = m.unary("softmax", m.dot(x, m.state(f"share.{e}", (M, 3)), [], [], [1], [0]))
            w = m.binary("add", w, m.reshape(m.slice(share, [0, 0], [S, 1]), (S,)))
        sum = m.binary("add", sum, m.binary("mul", y, m.broadcast(w, (S, M), [0])))
    return m.binary("add", x, sum)


def capacity(m, x, o):
    S, E, M, H, C = (o[n] for n in ("tokens", "experts", "width", "inner", "capacity"))
    logits = m.dot(x, m.state("gate", (E, M)), [], [], [1], [1])
    if o["load"] == "one":
        push = [40.0] + [0.0] * (E - 2) + [-40.0]
        logits = m.binary("add", logits, m.broadcast(m.state("push", (E,), "frozen", push), (S, E), [1]))
    gates = m.unary("softmax", logits)
    scores, hot, places, total = gates, [], [], None
    for k in range(o["choices"]):
        best = m.broadcast(m.reduce(scores, [1], 1), (S, E), [0])
        columns = m.op("iota", [], "dim = 1 : i64", (S, E, "i64"))
        first = m.reduce(m.select(m.compare(scores, best), columns, m.splat(E, (S, E, "i64"))), [1], 2)
        flag = m.one_hot(first, E)
        hot.append(m.cast(m.cast(flag, "i64"), "f32"))
        scores = m.select(flag, m.splat(-1.0, (S, E, "f32")), scores)
        place = m.binary("sub", m.op("cumsum", [hot[k]], "dim = 0 : i64", (S, E, "f32")), m.splat(1.0, (S, E, "f32")))
        if total and o["spoil"] != "places":  # without the first choices two tokens share a slot
            place = m.binary("add", place, m.broadcast(total, (S, E), [1]))
        places.append(place)
        sum = m.reduce(hot[k], [0])
        total = m.binary("add", total, sum) if total else sum
    tensor = None
    slots = m.state("slots", (C,), "frozen" if o["spoil"] == "slots" else "counting", [float(c) for c in range(C)])
    for k in range(o["choices"]):
        fits = m.cast(m.compare(places[k], m.splat(float(C), (S, E, "f32")), 2), "f32")
        mask = m.binary("mul", hot[k], fits)
        weight = m.reduce(m.binary("mul", gates, mask), [1])
        used = hot[k] if o["spoil"] == "mask" else mask  # what does not fit is in slot 0 then
        part = m.binary("mul", m.broadcast(weight, (S, E), [0]), used)
        slot = m.reduce(m.binary("mul", mask, places[k]), [1])
        there = m.cast(m.compare(m.broadcast(slot, (S, C), [0]), m.broadcast(slots, (S, C), [1])), "f32")
        part = m.binary("mul", m.broadcast(part, (S, E, C), [0, 1]), m.broadcast(there, (S, E, C), [0, 2]))
        tensor = m.binary("add", tensor, part) if tensor else part
    marks = m.cast(m.compare(tensor, m.splat(0.0, (S, E, C, "f32")), 4), "f32")
    rows = m.dot(marks, x, [], [], [0], [0])
    h = m.dot(rows, m.state("up", (E, M, H)), [0], [0], [2], [1])
    if o["bias"]:
        h = m.binary("add", h, m.broadcast(m.state("up.bias", (E, H)), (E, C, H), [0, 2]))
    y = m.dot(m.unary("relu", h), m.state("down", (E, H, M)), [0], [0], [2], [1])
    return m.dot(tensor, y, [], [], [1, 2], [0, 1])


def main():
    options = dict(OPTIONS)
    for argument in sys.argv[2:]:
        name, value = argument.split("=")
        options[name] = type(OPTIONS[name])(value)
    m = Module()
    x = m.state("x", (options["tokens"], options["width"]))
    y = globals()[sys.argv[1]](m, x, options)
    flat = m.reshape(y, (y[1][0], y[1][2])) if len(y[1]) == 4 else y
    factor = m.state("factor", flat[1][:-1], "frozen")
    loss = m.reduce(m.binary("mul", flat, factor), range(len(flat[1]) - 1))
    print("module attributes {moe.training = {accumulate = 1 : i64}} {")
    print("  " + "\n  ".join(m.states))
    print('  func.func @forward() -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {')
    print("    " + "\n    ".join(m.lines))
    print(f"    return {loss[0]} : tensor<f32>\n  }}\n}}")


if __name__ == "__main__":
    main()
