"""The samples of `moerun train`, written a second time from the comments of runtime/data/."""
import numpy as np

FIRST_BYTE_TOKEN = 4
MASK = (1 << 64) - 1


def mix(value):
    """splitmix64's finaliser, the golden ratio added first."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def permuted(index, size, seed, epoch):
    """The element at place `index` of the permutation of [0, size) that (seed, epoch) names: a Feistel network of eight
    rounds over 2h bits, the least with 4^h >= size, walked until it falls inside."""
    half = 1
    while 4**half < size:
        half += 1
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for r in range(8):
            key = mix((mix(seed) + mix(epoch * 8 + r + 1)) & MASK)
            left, right = right, left ^ (mix(right ^ key) & low)
        index = left << half | right
        if index < size:
            return index


class Windows:
    """Windows of length + 1 tokens, one token shared by neighbours, of a part of a text."""

    def __init__(self, tokens, length):
        self.tokens, self.length = tokens, length
        self.count = (len(tokens) - 1) // length

    def __getitem__(self, index):
        first = index * self.length
        return self.tokens[first : first + self.length + 1]


def split(path, held_out, length):
    """(training windows, held-out windows) of the bytes of a file, token = byte + 4."""
    tokens = np.fromfile(path, np.uint8).astype(np.int64) + FIRST_BYTE_TOKEN
    held = int(len(tokens) * held_out)
    return Windows(tokens[: len(tokens) - held], length), Windows(tokens[len(tokens) - held :], length)


def batch(windows, update, rows, seed):
    """(ids, labels) [rows, length] of an update, counted from 0."""
    samples = range(update * rows, (update + 1) * rows)
    rows = np.stack([windows[permuted(k % windows.count, windows.count, seed, k // windows.count)] for k in samples])
    return rows[:, :-1], rows[:, 1:]


def in_order(windows, rows, pad):
    """Batches (ids, labels) over all windows in order, the last one filled up with rows of padding."""
    for first in range(0, windows.count, rows):
        full = [windows[i] for i in range(first, min(first + rows, windows.count))]
        full += [np.full(windows.length + 1, pad)] * (rows - len(full))
        yield np.stack(full)[:, :-1], np.stack(full)[:, 1:]
