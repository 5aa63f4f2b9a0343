"""One JAX trainer that works when it is told to; protocol and arguments are those of torch_worker.py."""
import functools
import json
import os
import pathlib
import sys
import time

JOB = json.loads(sys.argv[1])
# Before JAX starts its threads: as many as the others have.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: JOB["threads"]])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax_models import Model  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_peer import safetensors  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402


def resident(key):
    """VmRSS or VmHWM of this process in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def update(model, recipe, state, rate, ids, labels):
    """Forward, backward, clipping by the global norm and AdamW, as one program."""
    weights, first, second, count = state
    loss, gradients = jax.value_and_grad(model.loss)(weights, ids, labels)
    norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradients.values()))
    factor = jnp.minimum(1.0, recipe.clip_norm / (norm + 1e-6))
    count = count + 1
    a, b = recipe.betas
    new = {}, {}, {}
    for name, weight in weights.items():
        gradient = gradients[name] * factor
        new[1][name] = a * first[name] + (1 - a) * gradient
        new[2][name] = b * second[name] + (1 - b) * jnp.square(gradient)
        step = new[1][name] / (1 - a**count) / (jnp.sqrt(new[2][name] / (1 - b**count)) + recipe.eps)
        new[0][name] = weight - rate * (step + recipe.weight_decay * weight)
    return (*new, count), loss


def main():
    config, recipe = Config(**JOB["config"]), Recipe(**JOB["recipe"])
    before = resident("VmRSS")
    model = Model(JOB["kind"], config, JOB["compute"] == "bf16")
    weights = {name: jnp.asarray(array) for name, array in safetensors.load(JOB["initial"]).items()}
    zeros = {name: jnp.zeros_like(array) for name, array in weights.items()}
    state = weights, zeros, {name: jnp.copy(array) for name, array in zeros.items()}, jnp.zeros((), jnp.float32)
    del weights, zeros
    inputs = {name: array.astype("int32") for name, array in safetensors.load(JOB["inputs"]).items()}
    step = jax.jit(functools.partial(update, model, recipe), donate_argnums=0)
    done = 0
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            batch = done % len(inputs["input_ids"])
            state, loss = step(state, recipe.rate(done), inputs["input_ids"][batch], inputs["labels"][batch])
            losses.append(float(loss))
            jax.block_until_ready(state)
            seconds.append(time.perf_counter() - start)
            done += 1
        print(json.dumps({"seconds": seconds, "losses": losses, "peak_bytes": resident("VmHWM") - before}), flush=True)
        # The next answer's peak is that of its updates, not of the compiler at the first one.
        pathlib.Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
