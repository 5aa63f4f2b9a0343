"""Event files for TensorBoard hold what the JSON log says. The reader here knows the format and nothing of ours: frames with
masked CRC-32C (TensorFlow's record format) and the fields of `Event` (protobuf's wire format)."""
import glob
import json
import math
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()


def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frames(data):
    while data:
        size, check = struct.unpack_from("<QI", data)
        assert check == crc(data[:8]), "checksum of a length"
        message, (check,) = data[12 : 12 + size], struct.unpack_from("<I", data, 12 + size)
        assert check == crc(message), "checksum of a message"
        yield message
        data = data[16 + size :]


def fields(message):
    """(number, value) of each field of a message."""
    def varint():
        nonlocal message
        value = shift = 0
        while True:
            byte, message = message[0], message[1:]
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while message:
        key = varint()
        size = {0: None, 1: 8, 5: 4}.get(key & 7, -1)
        if size is None:
            yield key >> 3, varint()
            continue
        size = varint() if size < 0 else size
        yield key >> 3, message[:size]
        message = message[size:]


def scalars(folder):
    """{update: {name: value}} of all files of a folder, in the order of their names."""
    result = {}
    for path in sorted(glob.glob(f"{folder}/events.out.tfevents.*")):
        events = [dict(fields(frame)) for frame in frames(open(path, "rb").read())]
        report.check(events[0][3] == b"brain.Event:2" and struct.unpack("<d", events[0][1])[0] > 1.6e9, "a file begins with its version")
        for event in events[1:]:
            for _, value in fields(event[5]):
                entry = dict(fields(value))
                result.setdefault(event[2], {})[entry[1].decode()] = struct.unpack("<f", entry[2])[0]
    return result


lab.letters("text", 6000)
lab.model("m.onnx", tokens=16)
lab.compile_plan("m.onnx", "p.moe", 2, 16)
logged = {}
for updates, resume in ((6, []), (11, ["--resume"])):
    done = lab.run("moerun", "train", "p.moe", "--data", "text", "--valid-split", 0.1, "--max-update", updates, "--save-dir", "run",
                   "--validate-interval-updates", 3, "--log-interval", 2, "--log-format", "json", "--tensorboard", "tb", *resume)  # fmt: skip
    for line in lab.records(done.stdout, "update"):
        logged.setdefault(line.pop("update"), {}).update(line)
told = scalars("tb")
report.check(len(glob.glob("tb/*")) == 2, "a resumed run has a file of its own")
report.check(told.keys() == logged.keys() and all(told[u].keys() == logged[u].keys() for u in told), f"updates {sorted(told)}, {len(told[6])} curves")
wrong = [(u, key) for u in told for key, value in told[u].items() if not math.isclose(value, logged[u][key], rel_tol=1e-6, abs_tol=1e-30)]
report.check(not wrong and "valid_loss" in told[6] and "loss" in told[11], f"the numbers of the JSON log {wrong[:3]}")
report.finish()
