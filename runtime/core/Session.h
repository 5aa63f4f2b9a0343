//===- Session.h - A plan that is ready to run
//-----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A Session takes a plan through Prepare (what is needed: CPU features, library scratch, memory) and Initialize (one
// allocation per arena, kernels loaded, library primitives created). After that `run` allocates nothing of ours, looks
// nothing up by name and touches no string.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_SESSION_H
#define MOEC_RUNTIME_CORE_SESSION_H

#include "runtime/comm/Communicator.h"
#include "runtime/core/Diagnostic.h"
#include "runtime/plan/PlanFile.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace moe {

struct SessionOptions {
  /// Name of the backend library: `libmoerun-<device>.so` beside the program or in ../lib.
  std::string device = "cpu";
  /// Fill dead slices with NaN (0xFF bytes) after their last use and guard arena ends.
  bool poison = false;
  /// Skip the validator (benchmarks only; `moerun` itself always validates).
  bool trustPlan = false;
  /// Measure each step; see `Session::stepSeconds`.
  bool profile = false;
  /// Where a device that chooses among algorithms by itself records what it chose, to choose the same in the next run;
  /// empty: nowhere.
  std::filesystem::path choices = {};
  /// The ranks of the run, of which the session is one; null: it is alone. Outlives the session.
  Communicator *communicator = nullptr;
};

class Session {
public:
  /// The plan must outlive nothing: the session takes the file over.
  static Expected<std::unique_ptr<Session>> create(PlanFile file, const SessionOptions &options);
  virtual ~Session() = default;

  virtual const plan::Plan &plan() const = 0;

  /// See SessionOptions::communicator.
  virtual Communicator *communicator() const { return nullptr; }
  /// Which of the plan's ranks this is.
  int rank() const { return communicator() ? communicator()->rank() : 0; }

  /// Index of a program by name, to be looked up once; -1 if the plan has none.
  virtual int programIndex(std::string_view name) const = 0;
  /// Runs one program to completion.
  virtual Status run(int program) = 0;
  /// Runs programs one after the other to completion, as few launches as the device can make of them. `starts` is
  /// called before each launch with the first of its programs. `stepSeconds` are those of `run`.
  virtual Status runSequence(std::span<const int> programs, const std::function<void(int program)> &starts) {
    for (int program : programs) {
      starts(program);
      if (Status status = run(program); !status)
        return status;
    }
    return {};
  }

  /// Seconds that each step of a program took when it ran last, in the order of `plan::Program::steps`; empty without
  /// `SessionOptions::profile`.
  virtual std::span<const double> stepSeconds(int /*program*/) const { return {}; }

  /// Bytes of a slice for the host to read and write between runs: those of a STAGING arena on all devices, and where
  /// the device's memory is that of the host, those of the STATE and GRADIENTS arenas and the outputs of the program
  /// that ran last. Empty otherwise. The address is valid for the life of the session.
  virtual std::span<std::byte> bytes(const plan::Slice &slice) = 0;

  /// Copies any such slice, wherever it lies, to the host; `destination` has the slice's size. Errors: the device
  /// fails.
  virtual Status read(const plan::Slice &slice, std::span<std::byte> destination) {
    std::ranges::copy(bytes(slice), destination.begin());
    return {};
  }

  /// Copies from the host to a slice; `source` has the slice's size. Errors: the device fails.
  virtual Status write(const plan::Slice &slice, std::span<const std::byte> source) {
    std::ranges::copy(source, bytes(slice).begin());
    return {};
  }

  /// Value of metric `plan().metrics(index)`, widened to double; NaN if the device fails.
  virtual double metric(int index) const = 0;
};

} // namespace moe

#endif // MOEC_RUNTIME_CORE_SESSION_H
