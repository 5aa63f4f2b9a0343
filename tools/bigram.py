"""Bits per held-out byte of a bigram model: python3 tools/bigram.py FILE HELD_OUT_FRACTION

Counts of byte pairs in the first part of the file, half a count added to each pair; measured on the last part.
"""
import sys

import numpy as np

text = np.fromfile(sys.argv[1], np.uint8)
train, held_out = np.split(text, [round(len(text) * (1 - float(sys.argv[2])))])
counts = np.full((256, 256), 0.5)
np.add.at(counts, (train[:-1], train[1:]), 1)
bits = -np.log2(counts / counts.sum(1, keepdims=True))
print(f"{bits[held_out[:-1], held_out[1:]].mean():.2f}")
