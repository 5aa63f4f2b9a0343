#!/usr/bin/env python3
"""Oracle of the update program.

    update.py emit KEY=VALUE…     prints a module with a hand-made @micro_step for `--insert-update`
    update.py check KEY=VALUE…    reads the states that the interpreter prints and compares them

The formulas are those of the documentation of torch.optim (sgd, adam, adamw), of fairseq's Adam and of fairseq's
schedules, written for lists of Python numbers; nothing is shared with the compiler. Gradients grow from micro-step to
micro-step, so that every update leaves its own trace in the parameters. `poison=N` makes the gradient of micro-step N
infinite.
"""
import math
import sys

STEPS = 7
WEIGHT = 4.0
PARAMETERS = {
    "layers.0.w": ([1.0, -2.0, 0.5], [0.8, -0.4, 0.2]),
    "layers.1.experts.w": ([3.0, 0.25, -1.0, 2.0], [-0.6, 0.1, 0.3, -1.2]),
}
SHAPES = {"layers.0.w": "3", "layers.1.experts.w": "2x2"}
# The interpreter prints six digits, and the recipe's numbers reach the program as float32.
TOLERANCE = 2e-5


class Options:
    def __init__(self, words):
        self.optimizer, self.schedule = "sgd", "constant"
        self.lr, self.beta1, self.beta2, self.eps, self.weight_decay, self.momentum = 0.1, 0.9, 0.98, 0.1, 0.0, 0.0
        self.warmup_updates, self.total_updates, self.power, self.end_lr = 0, 0, 1.0, 0.0
        self.decay_updates, self.decay = 0, "linear"
        self.clip_norm, self.accumulate, self.poison = 0.0, 1, -1
        for word in words:
            key, value = word.split("=")
            setattr(self, key, type(getattr(self, key))(value))


def dense(values, shape):
    if shape == "2x2":
        return f"dense<[[{values[0]}, {values[1]}], [{values[2]}, {values[3]}]]> : tensor<2x2xf32>"
    return f"dense<{values}> : tensor<{shape}xf32>"


def emit(o):
    print(f"""module attributes {{moe.training = {{
  accumulate = {o.accumulate} : i64, clip_norm = {o.clip_norm} : f64,
  optimizer = {{name = "{o.optimizer}", lr = {o.lr} : f64, betas = [{o.beta1} : f64, {o.beta2} : f64], eps = {o.eps} : f64,
                weight_decay = {o.weight_decay} : f64, momentum = {o.momentum} : f64}},
  schedule = {{name = "{o.schedule}", warmup_updates = {o.warmup_updates} : i64, total_updates = {o.total_updates} : i64,
               power = {o.power} : f64, end_lr = {o.end_lr} : f64,
               decay_updates = {o.decay_updates} : i64, decay = "{o.decay}"}}}}}} {{""")
    for name, (value, _) in PARAMETERS.items():
        shape = SHAPES[name]
        print(f'  moe.state parameter @"{name}" : tensor<{shape}xf32> {{initial = {{data = {dense(value, shape)}}}}}')
        print(f'  moe.state gradient @"{name}.grad" : tensor<{shape}xf32> {{initial = 0.0 : f64, of = @"{name}"}}')
    for name, kind in (("calls", "f32"), ("sum.loss", "f32"), ("sum.weight", "f32"), ("sum.aux_loss", "f32"),
                       ("sum.moe_metrics", "9xf32"), ("control.progress", "2xi64")):
        print(f'  moe.state control @"{name}" : tensor<{kind}> {{initial = 0.0 : f64}}')
    scalar = "(tensor<f32>, tensor<f32>) -> tensor<f32>"
    print(f"""  func.func @micro_step() attributes {{moe.program = "micro_step"}} {{
    %one = moe.constant {{value = dense<1.0> : tensor<f32>}} : () -> tensor<f32>
    %zero = moe.constant {{value = dense<0.0> : tensor<f32>}} : () -> tensor<f32>
    %poison = moe.constant {{value = dense<{float(o.poison)}> : tensor<f32>}} : () -> tensor<f32>
    %weight = moe.constant {{value = dense<{WEIGHT}> : tensor<f32>}} : () -> tensor<f32>
    %calls = moe.read @calls : tensor<f32>
    %next = moe.add %calls, %one : {scalar}
    moe.write @calls, %next : tensor<f32>
    %bad = moe.compare %calls, %poison {{predicate = 0 : i32}} : (tensor<f32>, tensor<f32>) -> tensor<i1>
    %divisor = moe.select %bad, %zero, %one : (tensor<i1>, tensor<f32>, tensor<f32>) -> tensor<f32>
    %scale = moe.div %next, %divisor : {scalar}
    %loss = moe.mul %weight, %next : {scalar}""")
    for i, (name, (_, gradient)) in enumerate(PARAMETERS.items()):
        t = f"tensor<{SHAPES[name]}xf32>"
        binary = f"({t}, {t}) -> {t}"
        print(f"""    %base{i} = moe.constant {{value = {dense(gradient, SHAPES[name])}}} : () -> {t}
    %scale{i} = moe.broadcast %scale {{dims = array<i64>}} : (tensor<f32>) -> {t}
    %now{i} = moe.mul %base{i}, %scale{i} : {binary}""")
        if o.accumulate > 1:
            print(f"""    %before{i} = moe.read @"{name}.grad" : {t}
    %sum{i} = moe.add %before{i}, %now{i} : {binary}""")
        print(f'    moe.write @"{name}.grad", {"%sum" if o.accumulate > 1 else "%now"}{i} : {t}')
    for name, value in (("sum.loss", "%loss"), ("sum.weight", "%weight"), ("sum.aux_loss", "%weight")):
        variable = name.replace("sum.", "")
        print(f"""    %old_{variable} = moe.read @"{name}" : tensor<f32>
    %new_{variable} = moe.add %old_{variable}, {value} : {scalar}
    moe.write @"{name}", %new_{variable} : tensor<f32>""")
    print("""    %metrics = moe.read @"sum.moe_metrics" : tensor<9xf32>
    %numbers = moe.broadcast %next {dims = array<i64>} : (tensor<f32>) -> tensor<9xf32>
    %all = moe.add %metrics, %numbers : (tensor<9xf32>, tensor<9xf32>) -> tensor<9xf32>
    moe.write @"sum.moe_metrics", %all : tensor<9xf32>
    %progress = moe.read @"control.progress" : tensor<2xi64>
    %micro = moe.constant {value = dense<[0, 1]> : tensor<2xi64>} : () -> tensor<2xi64>
    %moved = moe.add %progress, %micro : (tensor<2xi64>, tensor<2xi64>) -> tensor<2xi64>
    moe.write @"control.progress", %moved : tensor<2xi64>
    return
  }
}""")


def learning_rate(o, u):
    """Learning rate of the update after `u` completed ones."""
    warm = o.warmup_updates
    if o.schedule == "fixed":
        return o.lr * (u + 1) / warm if u < warm else o.lr
    if u < warm:
        return o.lr * u / warm
    if o.schedule == "constant":
        return o.lr
    if o.schedule == "inverse_sqrt":
        return o.lr * warm ** 0.5 * u ** -0.5
    if o.schedule == "polynomial_decay":
        if u >= o.total_updates:
            return o.end_lr
        remaining = 1 - (u - warm) / (o.total_updates - warm)
        return (o.lr - o.end_lr) * remaining ** o.power + o.end_lr
    if o.schedule == "wsd":
        stable_end = o.total_updates - o.decay_updates
        if u < stable_end:
            return o.lr
        progress = min(1.0, (u - stable_end) / o.decay_updates)
        left = {"linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
                "1-sqrt": 1 - math.sqrt(progress)}[o.decay]
        return o.lr * left + o.end_lr * (1 - left)
    done = min((u - warm) / (o.total_updates - warm), 1.0)
    return o.end_lr + 0.5 * (o.lr - o.end_lr) * (1 + math.cos(math.pi * done))


def apply(o, p, g, slots, lr, t):
    """One element: returns its new value; `t` counts applied updates from 1."""
    if o.optimizer == "sgd":
        g = g + o.weight_decay * p
        if o.momentum:
            slots["momentum_buffer"] = g = o.momentum * slots.get("momentum_buffer", 0.0) + g
        return p - lr * g
    if o.optimizer == "adam":
        g = g + o.weight_decay * p
    m = slots["exp_avg"] = o.beta1 * slots.get("exp_avg", 0.0) + (1 - o.beta1) * g
    v = slots["exp_avg_sq"] = o.beta2 * slots.get("exp_avg_sq", 0.0) + (1 - o.beta2) * g * g
    correction1, correction2 = 1 - o.beta1 ** t, 1 - o.beta2 ** t
    if o.optimizer == "fairseq_adam":
        p = p - o.weight_decay * lr * p
        return p - lr * math.sqrt(correction2) / correction1 * m / (math.sqrt(v) + o.eps)
    if o.optimizer == "adamw":
        p = p * (1 - lr * o.weight_decay)
    return p - lr * (m / correction1) / (math.sqrt(v / correction2) + o.eps)


def expected(o):
    values = {name: list(value) for name, (value, _) in PARAMETERS.items()}
    slots = {name: [{} for _ in value] for name, (value, _) in PARAMETERS.items()}
    updates, call, states = 0, 0, {}
    for _ in range(STEPS):
        gradient = {name: [0.0] * len(values[name]) for name in values}
        loss = metrics = weight = 0.0
        finite = True
        for _ in range(o.accumulate):
            for name, (_, base) in PARAMETERS.items():
                gradient[name] = [s + b * (call + 1) for s, b in zip(gradient[name], base)]
            finite &= call != o.poison
            loss, metrics, weight = loss + WEIGHT * (call + 1), metrics + call + 1, weight + WEIGHT
            call += 1
        norm = math.sqrt(sum(g * g for part in gradient.values() for g in part)) / weight if finite else math.inf
        clip = min(1.0, o.clip_norm / (norm + 1e-6)) if o.clip_norm else 1.0
        lr = learning_rate(o, updates)
        states = {"metric.loss": [loss / weight], "metric.gnorm": [norm], "metric.lr": [lr], "metric.ntokens": [weight],
                  "metric.applied": [float(finite)], "metric.moe_gate_loss": [1.0],
                  "metric.moe_metrics": [metrics / o.accumulate] * 9}
        if o.clip_norm:
            states["metric.clip_factor"] = [clip]
        if finite:
            updates += 1
            for name in values:
                values[name] = [apply(o, p, g / weight * clip, s, lr, updates)
                                for p, g, s in zip(values[name], gradient[name], slots[name])]
    states.update(values)
    for name, elements in slots.items():
        for slot in elements[0]:
            states[f"{name}.{slot}"] = [element[slot] for element in elements]
    if o.accumulate > 1:
        states.update({f"{name}.grad": [0.0] * len(values[name]) for name in values})
    states.update({"sum.loss": [0.0], "sum.weight": [0.0], "sum.aux_loss": [0.0], "sum.moe_metrics": [0.0] * 9,
                   "control.progress": [updates, 0]})
    return states


def check(o):
    actual = {}
    for line in sys.stdin:
        name, _, numbers = line.strip().partition(" = ")
        actual[name] = [float(number) for number in numbers.split(", ")]
    wrong = 0
    for name, values in expected(o).items():
        got = actual.get(name, [])
        if len(got) != len(values) or any(a != b and not abs(a - b) <= TOLERANCE * (1 + abs(b))
                                          for a, b in zip(got, values)):
            print(f"{name}: expected {values}, got {got}", file=sys.stderr)
            wrong = 1
    return wrong


def main():
    options = Options(sys.argv[2:])
    if sys.argv[1] == "emit":
        emit(options)
        return 0
    return check(options)


if __name__ == "__main__":
    sys.exit(main())
