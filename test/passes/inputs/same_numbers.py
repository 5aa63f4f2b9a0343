#!/usr/bin/env python3
"""Compares two outputs of `moe-opt --interpret --states`: same_numbers.py BEFORE AFTER

Lines are matched by name, `NAME = numbers`, or by position where they have none. Numbers may differ by 3e-5 of the
largest of their line: constants that a pass writes into float32 programs are rounded (6e-8), conditioning and six
printed digits do the rest.
"""
import sys

TOLERANCE = 3e-5


def read(path):
    lines = {}
    with open(path, encoding="utf-8") as file:
        for i, line in enumerate(file):
            name, equals, numbers = line.strip().rpartition(" = ")
            lines[name if equals else i] = [float(number) for number in numbers.split(", ")]
    return lines


def main():
    before, after = read(sys.argv[1]), read(sys.argv[2])
    wrong = not before or before.keys() != after.keys()
    if wrong:
        print(f"names differ: {list(before)} and {list(after)}", file=sys.stderr)
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        scale = max(map(abs, a))
        if len(a) != len(b) or not all(x == y or abs(x - y) <= TOLERANCE * scale for x, y in zip(a, b)):
            print(f"{name}: {a} became {b}", file=sys.stderr)
            wrong = True
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
