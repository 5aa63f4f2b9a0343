"""Takes out, or turns wrong, one rule at a time of those that make programs of many ranks: adjoints of collectives, layout rules,
reductions of gradients, norms and metrics, parts of experts and of random numbers. Tests must notice each.

    rank_rules.py [TEXT]        only those whose name contains TEXT

A mutant is compiled in a folder of its own and linked before the libraries of the build. It is noticed if
the tests of layouts or of the grid of meshes fail. Prints a table, which is rank_rules.txt if all rules were tried.
"""
import concurrent.futures
import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

ROOT, BUILD = (pathlib.Path(os.environ[name]) for name in ("MOEC_ROOT", "MOEC_BUILD"))
PROGRAMS = ("moec_test_ir_gradients", "moec_test_mesh")  # the first knows no passes

# File, what stands there, what stands there instead. What would only repeat work or send more is for the lit tests of the passes.
RULES = [
    ("ir/Collectives.cpp", "ADJOINT(AllReduceOp, AllReduceOp)", "ADJOINT(AllReduceOp, AsPartialOp)"),
    ("ir/Collectives.cpp", "ADJOINT(AllGatherOp, ReduceScatterOp, getDim())", "ADJOINT(AllGatherOp, AllSliceOp, getDim())"),
    ("ir/Collectives.cpp", "ADJOINT(ReduceScatterOp, AllGatherOp, getDim())", "ADJOINT(ReduceScatterOp, PadSliceOp, getDim())"),
    ("ir/Collectives.cpp", "AllToAllOp, getTo(), getFrom())", "AllToAllOp, getFrom(), getTo())"),
    ("ir/Collectives.cpp", "ADJOINT(AllSliceOp, PadSliceOp, getDim())", "ADJOINT(AllSliceOp, AllGatherOp, getDim())"),
    ("ir/Collectives.cpp", "ADJOINT(PadSliceOp, AllSliceOp, getDim())", "ADJOINT(PadSliceOp, ReduceScatterOp, getDim())"),
    ("ir/Collectives.cpp", "ADJOINT(AsPartialOp, AsPartialOp)", "ADJOINT(AsPartialOp, AllReduceOp)"),
    ("ir/Collectives.cpp", "offsets.push_back(getOffsets()[i]);", "offsets.push_back(getOffsets()[0]);"),
    ("ir/Collectives.cpp", "offsets.push_back(offset);", "offsets.push_back(0);"),
    ("ir/Collectives.cpp", "Value starts = b.mul(b.iota(index, 0), static_cast<double>(own));", "Value starts = b.mul(b.iota(index, 0), static_cast<double>(own + 1));"),
    ("ir/LayoutRules.cpp", "rule.summed.push_back(rhs[r] = lhs[l]);", "rhs[r] = lhs[l];"),
    ("ir/LayoutRules.cpp", "rule.summed.push_back(factor);\n", "(void)isSum;\n"),
    ("ir/LayoutRules.cpp", "rule.summed.assign(index.begin(), index.end());", ""),
    ("ir/LayoutRules.cpp", "rule.partialWith.assign(index.begin(), index.end());", ""),
    ("ir/LayoutRules.cpp", '.summing("ec").partialAlong', ".partialAlong"),
    ("ir/LayoutRules.cpp", '.summing("mec")', '.summing("m")'),
    ("ir/LayoutRules.cpp", "MOE_BINARY(AddOp, Set{0, 1})", "MOE_BINARY(AddOp, Set{0, 1}, Set{0}, Set{1})"),
    ("ir/LayoutRules.cpp", "MOE_BINARY(MulOp, Set{0}, Set{1})", "MOE_BINARY(MulOp, Set{0}, Set{1}, Set{0, 1})"),
    ("ir/LayoutRules.cpp", "isFloat ? Sets{Set{0}} : Sets{});\n}\nLayoutRule DivOp", "isFloat ? Sets{Set{0}, Set{1}} : Sets{});\n}\nLayoutRule DivOp"),
    ("ir/LayoutRules.cpp", "MOE_ELEMENTWISE(ExpOp)", "MOE_ELEMENTWISE(ExpOp, Set{0})"),
    ("ir/LayoutRules.cpp", "MOE_ELEMENTWISE(SelectOp, Set{1, 2})", "MOE_ELEMENTWISE(SelectOp, Set{1, 2}, Set{1}, Set{2})"),
    ("ir/TensorBuilder.cpp", "if (value != 0)\n    type = wholeOrSplit(type);", ""),
    ("ir/Reshard.cpp", "if (mesh.getSizes()[axis] > 1)\n      layout = layout.with(axis, dual", "if (false)\n      layout = layout.with(axis, dual"),
    ("ir/Reshard.cpp", "if (!layout || !mesh)\n    return value;", "if (layout || !layout)\n    return value;"),
    ("ir/reference/Collectives.cpp", "place.offset[dim] += context.coordinates[axis] * place.whole[dim];", ""),
    ("ir/reference/Collectives.cpp", "if (i == 0)\n      mine[0] = *operands[0][0];", "mine[0] = *operands[i][0];"),
    ("ir/reference/Collectives.cpp", "bool isOwn = slot.ints[c] >= 0 && at >= start && at < start + own;", "bool isOwn = slot.ints[c] >= 0 && at >= start;"),
    ("passes/Differentiate.cpp", "weight = *counted;", "(void)*counted;"),
    ("passes/Differentiate.cpp", "return reshard(builder, weight, layout, mesh, getArgument());", "return weight;"),
    ("passes/Differentiate.cpp", "= gradientType(parameter.getTensorType(), mesh);", "= parameter.getTensorType();"),
    ("passes/InsertUpdate.cpp", "return succeeded(all) ? *all : mine;", "return succeeded(all) ? mine : mine;"),
    ("passes/InsertUpdate.cpp", "everywhere(b.builder, b.make<AddNOp>(ValueRange(squares)), mesh, getArgument());", "b.make<AddNOp>(ValueRange(squares));"),
    ("passes/InsertUpdate.cpp", "gradients.push_back(*gradient);", "gradients.push_back(states.read(builder, b.loc, bucket.gradient));"),
    ("passes/InsertUpdate.cpp", "states.write(builder, b.loc, bucket.name, *parameters);", "states.write(builder, b.loc, bucket.name, updated);"),
    ("passes/Buckets.cpp", "gradientType(bucket.type, mesh), StateKind::Gradient", "bucket.type, StateKind::Gradient"),
    ("passes/InsertExpertParallel.cpp", "return kSlots;", "return kExperts;"),
    ("passes/InsertExpertParallel.cpp", "slot.replaceAllUsesExcept(own.getOwnSlot(), own);", ""),
    ("passes/InsertExpertParallel.cpp", "expert->set(b.reshape(own.getOwnExpert(), type.getShape()));", "(void)type;"),
    ("passes/InsertExpertParallel.cpp", "states.found.insert({stack.getSymNameAttr(), 0});", "(void)stack;"),
    ("passes/InsertExpertParallel.cpp", "partsOf(dispatch) > 1 ? kSlots : kExperts", "kExperts"),
    ("ir/GroupedRows.cpp", 'summing(inParts ? "g" : "gr")', 'summing("r")'),
    ("ir/GroupedRows.cpp", '{"grn"}).summing("m")', '{"grn"})'),
    ("ir/AdjointTensor.cpp", "dropped->setAttr(kNumberedShapeAttr, shape);", "(void)shape;"),
    ("ir/Decompose.cpp", "{kLayoutAttr, kNumberedShapeAttr}", "{kLayoutAttr}"),
    ("ir/reference/Collectives.cpp", "place.whole.assign(numbered.asArrayRef().begin(), numbered.asArrayRef().end());", "(void)numbered;"),
    ("passes/BindPlaces.cpp", "whole.assign(numbered.asArrayRef().begin(), numbered.asArrayRef().end());", "(void)numbered;"),
    ("passes/EmptySlots.cpp", "if (isa<DropoutOp>(op) && ", "if (false && "),
    ("passes/EmptySlots.cpp", "b.splat(withShape(type, missing), -1)", "b.splat(withShape(type, missing), 0)"),
]


def link_command(program):
    said = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", program], capture_output=True, text=True, check=True)
    return shlex.split(said.stdout.strip().splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))


def outcome(rule):
    name, before, after = rule
    source = (ROOT / name).read_text()
    if before not in source:
        return "GONE FROM THE SOURCE"
    with tempfile.TemporaryDirectory() as folder:
        mutant, unit = pathlib.Path(folder) / pathlib.Path(name).name, pathlib.Path(folder) / "mutant.o"
        mutant.write_text(source.replace(before, after, 1))
        compile_words = list(COMMANDS[str(ROOT / name)])
        compile_words = [str(mutant) if word == str(ROOT / name) else word for word in compile_words]
        compile_words[compile_words.index("-o") + 1] = str(unit)
        compile_words = [word.replace("-O3", "-O1") for word in compile_words if "ccache" not in word]
        if subprocess.run(compile_words, cwd=BUILD, capture_output=True).returncode != 0:
            return "DOES NOT COMPILE"
        for program in PROGRAMS[name.startswith("passes/") :]:
            words = link_command(program)
            words[words.index("-o") + 1] = str(pathlib.Path(folder) / program)
            first = next(i for i, word in enumerate(words) if word.endswith(".o"))
            words.insert(first, str(unit))
            linked = subprocess.run(words, cwd=BUILD, capture_output=True, text=True)
            if linked.returncode != 0:
                return "DOES NOT LINK: " + linked.stderr[-200:]
            try:
                if subprocess.run([pathlib.Path(folder) / program, "--gtest_brief=1", "--gtest_fail_fast"], capture_output=True, timeout=1800).returncode != 0:
                    return program
            except subprocess.TimeoutExpired:
                return f"{program} does not end"
        return "SURVIVES"


COMMANDS = {entry["file"]: shlex.split(entry["command"]) for entry in json.loads((BUILD / "compile_commands.json").read_text())}
HEAD = f"""Rules of many ranks taken out or turned wrong, one at a time (rank_rules.py), {datetime.date.today()}. First column: the tests
that noticed.

"""
wanted = [rule for rule in RULES if all(text in " ".join(rule) for text in sys.argv[1:])]
bad, table = 0, []
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for (name, before, after), noticed in zip(wanted, pool.map(outcome, wanted)):
        bad += noticed[0].isupper()
        table.append(f"{noticed:28} {name}: {' '.join(before.split())[:70]} -> {' '.join(after.split())[:50] or 'nothing'}")
        print(table[-1], flush=True)
table.append(f"{len(wanted)} rules, {bad} of them not noticed")
print(table[-1])
if len(wanted) == len(RULES):
    (ROOT / "test/long/rank_rules.txt").write_text(HEAD + "\n".join(table) + "\n")
sys.exit(bad > 0)
