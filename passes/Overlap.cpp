//===- Overlap.cpp - Communication during computation -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// One sweep goes through the program as a machine would and ends each collective only when it is over, or somebody
// needs it. Then those that computation waits for are started earlier, one after the other: among a few places where
// estimates say that computation covers it, at the one with the shortest program. Now others are over earlier or later,
// so that the first sweep comes again. Computation keeps its order; memory that a collective holds longer stays within
// the peak that there was, and a bound on top.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Accesses.h"
#include "passes/Passes.h"
#include "runtime/plan/MachineEstimate.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_OVERLAP
#include "passes/Passes.h.inc"

namespace {

/// Computation that should cover a collective, as a multiple of its time: more where others are in its way.
constexpr double kCovers[] = {1, 1.5, 2, 3, 5};

/// What an operation is to the schedule.
struct Item {
  enum class Kind {
    Nothing, ///< reads, views, writes in place: no step
    Compute,
    Start,
    Done
  };
  Operation *op = nullptr;
  Kind kind = Kind::Nothing;
  int64_t time = 0; ///< picoseconds
  int partner = -1; ///< item of the other half of a collective
  std::vector<Access> accesses;
  SmallVector<int64_t> buffers; ///< of the step arena
};

using Order = std::vector<int>;

class Overlapper {
public:
  Overlapper(func::FuncOp function, const BufferTable &table, const AccessFinder &finder,
             const MachineEstimate &machine)
      : block(function.getBody().front()), table(table) {
    for (BlockArgument argument : function.getArguments())
      if (int64_t buffer = finder.slot(argument).buffer; table.buffers[buffer].arena == ArenaClass::Step)
        inputs.push_back(buffer);
    for (Operation &op : block) {
      numbers[&op] = static_cast<int>(items.size());
      order.push_back(static_cast<int>(items.size()));
      items.push_back(makeItem(&op, finder, machine));
    }
  }

  void run(std::optional<int64_t> slack) {
    measure();
    int64_t most = 0;
    for (const Item &item : items)
      if (item.kind == Item::Kind::Start)
        most = std::max(most, static_cast<int64_t>(tensorBytes(typeOf(item.op->getResult(0)))));
    bound = *std::max_element(live.begin(), live.end()) + slack.value_or(most);
    endLater();
    for (int start : Order(order))
      if (items[start].kind == Item::Kind::Start)
        startEarlier(start);
    endLater();
    for (int item : order)
      items[item].op->moveBefore(&block, block.end());
  }

private:
  Item makeItem(Operation *op, const AccessFinder &finder, const MachineEstimate &machine) {
    Item item{op, Item::Kind::Compute, 0, -1, finder.accesses(op), finder.stepBuffers(op)};
    if (auto done = dyn_cast<DoneOp>(op)) {
      item.kind = Item::Kind::Done;
      item.partner = numbers.lookup(done.getStarted().getDefiningOp());
      items[item.partner].partner = numbers.lookup(op);
      return item;
    }
    auto compute = dyn_cast<MoeOpInterface>(op);
    if (!compute) // the terminator
      return item;
    BufferUse use = compute.getBufferUse();
    if (use.kind != BufferUse::Kind::Compute && !op->hasAttr(kCopyAttr)) {
      item.kind = Item::Kind::Nothing;
      return item;
    }
    Cost cost = compute.getCost();
    if (auto collective = dyn_cast<CollectiveOpInterface>(op); collective && collective.communicates()) {
      item.kind = Item::Kind::Start;
      item.time = machine.sending(cost.sent);
    } else {
      item.time = machine.computing(cost.flops, cost.bytes, isNarrow(op));
    }
    return item;
  }

  static bool isNarrow(Operation *op) {
    return op->getNumOperands() > 0 && typeOf(op->getOperand(0)).getElementTypeBitWidth() == 16;
  }

  int64_t bytesOf(int64_t buffer) const {
    return static_cast<int64_t>(llvm::alignTo(table.buffers[buffer].bytes, kBufferAlignment));
  }

  /// Positions at which buffers are used first and last, and what is live at each position.
  void measure() {
    first.assign(table.buffers.size(), -1);
    last.assign(table.buffers.size(), -1);
    for (int64_t buffer : inputs)
      first[buffer] = last[buffer] = 0;
    for (int at = 0; at < static_cast<int>(order.size()); ++at)
      for (int64_t buffer : items[order[at]].buffers) {
        if (first[buffer] < 0)
          first[buffer] = at;
        last[buffer] = at;
      }
    std::vector<int64_t> change(order.size() + 1, 0);
    for (size_t buffer = 0; buffer < first.size(); ++buffer)
      if (first[buffer] >= 0) {
        change[first[buffer]] += bytesOf(static_cast<int64_t>(buffer));
        change[last[buffer] + 1] -= bytesOf(static_cast<int64_t>(buffer));
      }
    live.assign(order.size(), 0);
    int64_t now = 0;
    for (size_t at = 0; at < order.size(); ++at)
      live[at] = now += change[at];
  }

  /// Picoseconds of the program in the given order. `waited` receives for how long computation waits for `watched`.
  int64_t simulate(const Order &steps, int watched, int64_t &waited) {
    int64_t compute = 0, communicate = 0;
    ends.assign(items.size(), 0);
    for (int number : steps) {
      const Item &item = items[number];
      switch (item.kind) {
      case Item::Kind::Nothing:
        break;
      case Item::Kind::Compute:
        compute += item.time;
        break;
      case Item::Kind::Start:
        communicate = std::max(compute, communicate) + item.time;
        ends[number] = communicate;
        break;
      case Item::Kind::Done:
        if (item.partner == watched)
          waited = std::max<int64_t>(ends[item.partner] - compute, 0);
        compute = std::max(compute, ends[item.partner]);
        break;
      }
    }
    return std::max(compute, communicate);
  }

  void startEarlier(int start) {
    int64_t waited = 0, ignored = 0;
    int64_t best = simulate(order, start, waited);
    if (waited == 0)
      return;
    const auto at = static_cast<int>(std::find(order.begin(), order.end(), start) - order.begin());
    // Reads and views that make the operands come along.
    Order along{start};
    SmallPtrSet<Operation *, 8> moving{items[start].op};
    std::optional<Order> chosen;
    auto consider = [&](int to) {
      Order candidate = moved(along, to, at);
      if (int64_t time = simulate(candidate, start, ignored); time < best) {
        best = time;
        chosen = std::move(candidate);
      }
    };
    size_t cover = 0;
    int64_t covered = 0;
    int reached = at, considered = at;
    for (int above = at - 1; above >= 0 && cover < std::size(kCovers); --above) {
      const Item &item = items[order[above]];
      const bool feeds = llvm::any_of(item.op->getUsers(), [&](Operation *user) { return moving.contains(user); });
      if (item.kind == Item::Kind::Nothing && feeds) {
        along.push_back(order[above]);
        moving.insert(item.op);
        continue;
      }
      const Item &other = item.kind == Item::Kind::Done ? items[item.partner] : item;
      if (feeds || conflict(other.accesses, items[start].accesses) || live[above] + missing(start, above) > bound)
        break;
      reached = above;
      covered += item.kind == Item::Kind::Compute ? item.time : 0;
      bool enough = false;
      while (cover < std::size(kCovers) &&
             static_cast<double>(covered) >= kCovers[cover] * static_cast<double>(items[start].time)) {
        enough = true;
        ++cover;
      }
      // The lane of communication is busy behind another start, and may not be before it.
      if (enough || item.kind == Item::Kind::Start) {
        consider(above);
        considered = above;
      }
    }
    if (reached < considered)
      consider(reached);
    if (!chosen)
      return;
    order = std::move(*chosen);
    measure();
  }

  /// Bytes of buffers of a collective that are not in use yet at a position before its start.
  int64_t missing(int start, int above) const {
    int64_t bytes = 0;
    for (int64_t buffer : items[start].buffers)
      if (first[buffer] > above)
        bytes += bytesOf(buffer);
    return bytes;
  }

  /// The order with `along`, in reverse and all of them at or before `at`, moved to before position `to`.
  Order moved(const Order &along, int to, int at) const {
    Order result(order.begin(), order.begin() + to);
    result.reserve(order.size());
    result.insert(result.end(), along.rbegin(), along.rend());
    for (int i = to; i <= at; ++i)
      if (!llvm::is_contained(along, order[i]))
        result.push_back(order[i]);
    result.insert(result.end(), order.begin() + at + 1, order.end());
    return result;
  }

  /// A collective that has been started and not ended, and what shows its result without being a step.
  struct Pending {
    int done;
    Order views;
  };

  bool dependsOn(const Item &item, const Pending &pending) const {
    const Item &done = items[pending.done];
    return conflict(item.accesses, items[done.partner].accesses) ||
           llvm::any_of(item.op->getOperands(), [&](Value operand) {
             Operation *producer = operand.getDefiningOp();
             return producer == done.op ||
                    llvm::any_of(pending.views, [&](int view) { return items[view].op == producer; });
           });
  }

  void endLater() {
    std::vector<Pending> pending;
    Order result;
    result.reserve(order.size());
    ends.assign(items.size(), 0);
    int64_t compute = 0, communicate = 0;
    auto end = [&](size_t which) {
      Pending ended = std::move(pending[which]);
      pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(which));
      compute = std::max(compute, ends[items[ended.done].partner]);
      result.push_back(ended.done);
      result.insert(result.end(), ended.views.begin(), ended.views.end());
    };
    for (int at = 0; at < static_cast<int>(order.size()); ++at) {
      const Item &item = items[order[at]];
      if (item.kind == Item::Kind::Done) {
        pending.push_back({order[at], {}});
        continue;
      }
      if (item.kind == Item::Kind::Nothing) {
        // Of several results it can show one only; the others must be there.
        std::optional<size_t> shown;
        for (size_t i = pending.size(); i-- > 0;)
          if (dependsOn(item, pending[i])) {
            if (shown) {
              end(i);
              --*shown;
            } else {
              shown = i;
            }
          }
        if (shown)
          pending[*shown].views.push_back(order[at]);
        else
          result.push_back(order[at]);
        continue;
      }
      for (size_t i = 0; i < pending.size();)
        if (at + 1 == static_cast<int>(order.size()) || dependsOn(item, pending[i]) ||
            (item.kind == Item::Kind::Compute && ends[items[pending[i].done].partner] <= compute))
          end(i);
        else
          ++i;
      while (!pending.empty() && live[at] + held(pending, at) > bound)
        end(0);
      if (item.kind == Item::Kind::Start)
        ends[order[at]] = communicate = std::max(compute, communicate) + item.time;
      else
        compute += item.time;
      result.push_back(order[at]);
    }
    order = std::move(result);
    measure();
  }

  /// Bytes that collectives hold at a position where nobody else needs them any more.
  int64_t held(const std::vector<Pending> &pending, int at) const {
    int64_t bytes = 0;
    for (const Pending &entry : pending)
      for (int64_t buffer : items[entry.done].buffers)
        if (last[buffer] < at)
          bytes += bytesOf(buffer);
    return bytes;
  }

  Block &block;
  const BufferTable &table;
  llvm::DenseMap<Operation *, int> numbers;
  std::vector<Item> items;
  SmallVector<int64_t> inputs;
  Order order;
  std::vector<int> first, last; ///< by buffer
  std::vector<int64_t> live;    ///< by position
  std::vector<int64_t> ends;    ///< by item: when a collective is over
  int64_t bound = 0;
};

struct OverlapPass : impl::OverlapBase<OverlapPass> {
  using OverlapBase::OverlapBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<BufferTable> table = BufferTable::read(module);
    if (failed(table))
      return signalPassFailure();
    auto target = module->getAttrOfType<StringAttr>("moe.target");
    auto threads = module->getAttrOfType<IntegerAttr>("moe.threads");
    MachineEstimate machine = MachineEstimate::of(target ? std::string_view(target.getValue()) : std::string_view(),
                                                  threads ? threads.getInt() : 1);
    StateAliases aliases(module);
    for (auto function : module.getOps<func::FuncOp>()) {
      FailureOr<llvm::DenseMap<Value, Slot>> slots = readSlots(function);
      if (failed(slots))
        return signalPassFailure();
      if (function.getBody().front().getOps<DoneOp>().empty())
        continue;
      AccessFinder finder(*table, aliases, *slots);
      Overlapper(function, *table, finder, machine).run(slack < 0 ? std::nullopt : std::optional<int64_t>(slack));
    }
  }
};

} // namespace
} // namespace moe::ir
