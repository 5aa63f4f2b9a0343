# How lit runs the *.mlir and *.test files below test/. The build folder's test/lit.site.cfg.py says where the programs are.
import os
import sys

import lit.formats

config.name = "moec"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["data", "inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.moec_build, "test", "lit")
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.moec_build, "bin"), config.llvm_tools, config.environment["PATH"]])
config.substitutions.append(("%onnx", os.path.join(config.test_source_root, "data", "onnx")))
config.substitutions.append(("%python", '"' + sys.executable + '"'))

