//===- Memory.cpp - Races and lifetimes ---------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// One walk over the steps as listed, which is a legal order. Each arena is a map from byte ranges to what they hold,
// who wrote it last, and who has read it since (the last reader of each lane stands for its earlier ones). An access is
// compared with these alone, which misses no race: let (a, b) be the race whose b is listed first. If a is not
// remembered any more, a write w between them has replaced it, a happens before w, and b after w would put it after a;
// so b races with w or with what replaced w.
//
// As long as no race is found, the last write as listed is the last write in every legal order, hence what a read sees.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/validator/Checks.h"
#include "runtime/plan/validator/HappensBefore.h"
#include "runtime/plan/validator/Segments.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

namespace moe::validator {
namespace {

constexpr int64_t kGarbage = -1;    ///< nothing that may be read
constexpr int64_t kPersistent = -2; ///< what the arena held when the program started
constexpr int32_t kNobody = -1;

/// What a range of bytes holds.
struct Segment {
  uint64_t end = 0;
  int64_t owner = kGarbage;     ///< buffer through which the value was written
  int32_t writer = kNobody;     ///< step of the last write, a SCRATCH access included
  uint32_t writerBuffer = 0;    ///< buffer of that access
  std::vector<int32_t> readers; ///< by lane: last step that read since; empty if nobody did
};

struct Access {
  Range range;
  uint32_t buffer = 0;
  int operand = 0;
  plan::Operand::Access kind = plan::Operand::READ;

  bool reads() const { return kind == plan::Operand::READ || kind == plan::Operand::READ_WRITE; }
  bool writes() const { return kind != plan::Operand::READ; }
};

class Walk {
public:
  Walk(Context &context, int index)
      : context(context), plan(context.plan), index(index), program(plan.programs(index)), order(program) {
    for (const plan::Arena &arena : plan.arenas())
      arenas.emplace_back(arena.bytes(), Segment{0, persistent(arena) ? kPersistent : kGarbage, kNobody, 0, {}});
    for (const plan::StateTensor &tensor : plan.state())
      if (tensor.kind() == plan::StateTensor::FROZEN)
        frozen.emplace(context.rangeOf(tensor.slice()).begin, &tensor);
  }

  void run() {
    for (step = 0; step < program.steps_size(); ++step) {
      collect();
      checkWithinStep();
      for (const Access &access : accesses) {
        checkFrozen(access);
        checkOrder(access);
        if (access.reads())
          checkDefined(access.buffer, access.range, {index, step, access.operand}, "reads");
      }
      for (const Access &access : accesses)
        record(access);
    }
    for (const plan::Output &output : program.outputs())
      checkResult(output.slice(), "output " + quoted(output.name()));
    for (const plan::Metric &metric : plan.metrics())
      if (metric.program() == program.name())
        checkResult(metric.slice(), "metric " + quoted(metric.name()));
    checkPersistent();
  }

private:
  static bool persistent(const plan::Arena &arena) { return arena.class_() != plan::Arena::STEP; }

  void collect() {
    accesses.clear();
    const plan::Step &record = program.steps(step);
    for (int i = 0; i < record.operands_size(); ++i) {
      const plan::Operand &operand = record.operands(i);
      if (operand.slice().bytes() != 0)
        accesses.push_back({context.rangeOf(operand.slice()), operand.slice().buffer(), i, operand.access()});
    }
  }

  /// Operands of one step are accessed in no particular order: none may overlap what another one writes.
  void checkWithinStep() {
    std::vector<const Access *> sorted;
    sorted.reserve(accesses.size());
    for (const Access &access : accesses)
      sorted.push_back(&access);
    std::sort(sorted.begin(), sorted.end(), [](const Access *a, const Access *b) {
      return std::pair(a->range.arena, a->range.begin) < std::pair(b->range.arena, b->range.begin);
    });
    // The access, and the write, that reach furthest among those that start no later.
    const Access *any = nullptr, *write = nullptr;
    for (const Access *next : sorted) {
      const Access *other = next->writes() ? any : write;
      if (other && other->range.arena == next->range.arena && next->range.begin < other->range.end)
        context.add(Rule::Race, {index, step, next->operand},
                    "a step accesses " + bufferBytes(plan, next->buffer, next->range.begin, next->range.end) + " as " +
                        plan::Operand::Access_Name(next->kind) + " and " +
                        bufferBytes(plan, other->buffer, other->range.begin, other->range.end) + " as " +
                        plan::Operand::Access_Name(other->kind),
                    "both cover bytes " + bytesOf(next->range.begin, std::min(next->range.end, other->range.end)) +
                        " of arena " + quoted(plan.arenas(int(next->range.arena)).name()));
      auto extend = [&](const Access *&furthest) {
        if (!furthest || furthest->range.arena != next->range.arena || furthest->range.end < next->range.end)
          furthest = next;
      };
      extend(any);
      if (next->writes())
        extend(write);
    }
  }

  void checkFrozen(const Access &access) {
    if (!access.writes() || !persistent(plan.arenas(int(access.range.arena))))
      return;
    for (auto it = frozen.begin(); it != frozen.end() && it->first < access.range.end; ++it) {
      Range range = context.rangeOf(it->second->slice());
      if (range.arena == access.range.arena && access.range.begin < range.end)
        context.add(Rule::ReadOnly, {index, step, access.operand},
                    "a step writes " + bufferBytes(plan, access.buffer, access.range.begin, access.range.end),
                    "they belong to the frozen tensor " + quoted(it->second->name()));
    }
  }

  void reportRace(const Access &access, int32_t other, const char *verb, uint64_t begin, uint64_t end) {
    context.add(Rule::Race, {index, step, access.operand},
                std::string("a step ") + (access.writes() ? "writes " : "reads ") +
                    bufferBytes(plan, access.buffer, begin, end) + " unordered with " + stepName(plan, index, other),
                std::string("that step ") + verb + " bytes " + bytesOf(begin, end) + " of arena " +
                    quoted(plan.arenas(int(access.range.arena)).name()) + ", and no lane or signal orders the two");
  }

  /// The first unordered conflict of an access, if there is one. Steps of a single lane are always ordered.
  void checkOrder(const Access &access) {
    if (order.laneCount() <= 1)
      return;
    auto [first, last] = arenas[access.range.arena].cut(access.range.begin, access.range.end);
    for (auto it = first; it != last; ++it) {
      const Segment &segment = it->second;
      if (segment.writer != kNobody && !order.before(uint32_t(segment.writer), uint32_t(step)))
        return reportRace(access, segment.writer, "writes", it->first, segment.end);
      if (!access.writes())
        continue;
      for (int32_t reader : segment.readers)
        if (reader != kNobody && !order.before(uint32_t(reader), uint32_t(step)))
          return reportRace(access, reader, "reads", it->first, segment.end);
    }
  }

  /// Whether the bytes hold a value written through `buffer`; otherwise reports the first that do not.
  bool checkDefined(uint32_t buffer, const Range &range, Place place, const std::string &verb,
                    std::optional<Rule> rule = std::nullopt) {
    bool persists = persistent(plan.arenas(int(range.arena)));
    auto [first, last] = arenas[range.arena].cut(range.begin, range.end);
    for (auto it = first; it != last; ++it) {
      const Segment &segment = it->second;
      // Buffers of persistent arenas do not overlap, so that any value there is the buffer's own.
      if (persists ? segment.owner != kGarbage : segment.owner == int64_t(buffer))
        continue;
      bool foreign = segment.owner != kGarbage;
      std::string why = "no step before has written them";
      if (segment.writer != kNobody)
        why = stepName(plan, index, segment.writer) +
              (foreign ? " has overwritten them with " : " has used them as scratch of ") +
              bufferBytes(plan, segment.writerBuffer, it->first, segment.end);
      context.add(rule.value_or(foreign ? Rule::Foreign : Rule::Undefined), place,
                  (place.step >= 0 ? "a step " : "") + verb + " " + bufferBytes(plan, buffer, it->first, segment.end) +
                      " without a value",
                  why);
      return false;
    }
    return true;
  }

  void record(const Access &access) {
    Bytes<Segment> &bytes = arenas[access.range.arena];
    if (access.writes()) {
      int64_t owner = access.kind == plan::Operand::SCRATCH ? kGarbage : int64_t(access.buffer);
      bytes.assign(access.range.begin, access.range.end, Segment{0, owner, step, access.buffer, {}});
      return;
    }
    if (order.laneCount() <= 1)
      return;
    auto [first, last] = bytes.cut(access.range.begin, access.range.end);
    for (auto it = first; it != last; ++it) {
      it->second.readers.resize(order.laneCount(), kNobody);
      it->second.readers[order.lane(uint32_t(step))] = step;
    }
  }

  void checkResult(const plan::Slice &slice, const std::string &holder) {
    if (slice.bytes() != 0)
      checkDefined(slice.buffer(), context.rangeOf(slice), {index}, holder + " ends as", Rule::Output);
  }

  /// The next program finds what this one leaves in a persistent arena.
  void checkPersistent() {
    for (std::size_t a = 0; a < arenas.size(); ++a) {
      if (!persistent(plan.arenas(int(a))))
        continue;
      for (const auto &[begin, segment] : arenas[a].all())
        if (segment.owner == kGarbage)
          context.add(Rule::Destroyed, {index, segment.writer},
                      "the program leaves garbage in " + bufferBytes(plan, segment.writerBuffer, begin, segment.end),
                      "the bytes are scratch of this step, but arena " + quoted(plan.arenas(int(a)).name()) +
                          " outlives the program");
    }
  }

  Context &context;
  const plan::Plan &plan;
  int index;
  const plan::Program &program;
  HappensBefore order;
  std::vector<Bytes<Segment>> arenas;
  std::multimap<uint64_t, const plan::StateTensor *> frozen; ///< by first byte
  std::vector<Access> accesses;                              ///< of the current step
  int step = 0;
};

} // namespace

void checkMemory(Context &context, int program) {
  Walk(context, program).run();
}

} // namespace moe::validator
