#!/usr/bin/env python3
"""Writes positions.safetensors: fairseq's sinusoidal tables as PyTorch computes them in float32 (needs torch).

    python3 record_positions.py OUTPUT

The recorded float64 runs used these tables. PyTorch's float32 sine is not correctly rounded, hence the tables are data.
"""
import json
import math
import pathlib
import struct
import sys

import torch


def table(rows, dim, pad=1):
    half = dim // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
    angle = torch.arange(rows, dtype=torch.float).unsqueeze(1) * frequency.unsqueeze(0)
    result = torch.cat([torch.sin(angle), torch.cos(angle)], 1)
    result[pad] = 0
    return result.numpy()


head, blob = {}, b""
for rows, dim in ((18, 16), (34, 32)):
    values = table(rows, dim)
    head[f"positions.{rows}x{dim}"] = {
        "dtype": "F32",
        "shape": [rows, dim],
        "data_offsets": [len(blob), len(blob) + values.nbytes],
    }
    blob += values.tobytes()
text = json.dumps(head).encode()
pathlib.Path(sys.argv[1]).write_bytes(struct.pack("<Q", len(text)) + text + blob)
