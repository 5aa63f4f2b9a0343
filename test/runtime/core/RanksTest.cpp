//===- RanksTest.cpp - Sessions that are ranks of one run ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/ThreadRanks.h"
#include "test/runtime/core/TestSession.h"
#include "test/runtime/plan/MeshPlan.h"

#include <functional>
#include <thread>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

/// Opens the plan on each of `size` ranks and calls `body` with the session, or with the reason why there is none.
void onRanks(const PlanFile &file, int size, const std::function<void(Session *, const std::string &)> &body,
             double deadline = 60, bool poison = false) {
  auto ranks = makeThreadRanks(size, {.deadline = deadline});
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (auto &rank : ranks)
    threads.emplace_back([&, communicator = rank.get()] {
      SessionOptions options;
      options.communicator = communicator;
      options.poison = poison;
      auto session = Session::create(file, options);
      body(session ? session->get() : nullptr, session ? "" : session.error().str());
    });
  for (std::thread &thread : threads)
    thread.join();
}

/// A plan on data=2 expert=3: each rank has 12 numbers, and each kind of work makes something of them.
struct Work {
  PlanBuilder builder{1};
  plan::Slice input, sum, gathered, scattered, exchanged, part, padded, partial, largest;

  Work() {
    addAxis(builder, "data", 2);
    addAxis(builder, "expert", 3);
    builder.program("update");
    input = builder.state(12 * 4);
    sum = output(12), gathered = output(36), scattered = output(4), exchanged = output(12);
    part = output(4), padded = output(36), partial = output(12), largest = output(12);
    collective(plan::Collective::ALL_REDUCE, {0, 1}, sum, {12}, 12 * 4);
    cut(*collective(plan::Collective::ALL_GATHER, {1}, gathered, {2, 18}, 36 * 4).mutable_concat(), 2, 6);
    cut(*collective(plan::Collective::REDUCE_SCATTER, {1}, scattered, {2, 2}, 24 * 4).mutable_split(), 2, 2);
    plan::Collective &exchange = collective(plan::Collective::ALL_TO_ALL, {1}, exchanged, {6, 2}, 12 * 4);
    cut(*exchange.mutable_split(), 2, 2);
    cut(*exchange.mutable_concat(), 1, 4);
    plan::Step &slice = step("slice", part, {2, 2});
    slice.mutable_axis_slice()->add_axes(1);
    cut(*slice.mutable_axis_slice()->mutable_parts(), 2, 2);
    plan::Step &pad = step("pad", padded, {2, 18});
    pad.mutable_axis_slice()->add_axes(1);
    pad.mutable_axis_slice()->set_pad(true);
    cut(*pad.mutable_axis_slice()->mutable_parts(), 2, 6);
    step("partial", partial, {12}).mutable_as_partial()->add_axes(0);
    collective(plan::Collective::ALL_REDUCE, {1, 0}, largest, {12}, 12 * 4).set_reduction(plan::Collective::MAX);
  }

  plan::Slice output(uint64_t floats) { return builder.state(floats * 4); }

  static void cut(plan::Parts &parts, int64_t outer, int64_t inner) {
    parts.set_outer(outer);
    parts.set_inner(inner);
  }

  plan::Step &operands(plan::Step &step, const plan::Slice &to, const std::vector<int64_t> &shape) {
    addOperand(step, input, Operand::READ, plan::F32, {2, 6});
    addOperand(step, to, Operand::WRITE, plan::F32, shape);
    return step;
  }
  plan::Step &step(const std::string &name, const plan::Slice &to, const std::vector<int64_t> &shape) {
    return operands(builder.addStep(name), to, shape);
  }
  plan::Collective &collective(plan::Collective::Kind kind, const std::vector<uint32_t> &axes, const plan::Slice &to,
                               const std::vector<int64_t> &shape, uint64_t scratch) {
    plan::Step &step = operands(addCollective(builder, kind, axes, 12), to, shape);
    step.set_lane(1);
    addOperand(step, builder.step(scratch), Operand::SCRATCH);
    step.mutable_collective()->set_scratch_bytes(scratch);
    return *step.mutable_collective();
  }
};

/// Element [row][column] of the 2 x 6 numbers of a rank.
float number(int rank, int64_t row, int64_t column) {
  return static_cast<float>(rank * 100 + row * 10 + column);
}

TEST(Ranks, EachKindOfWorkDoesWhatItSays) {
  Work work;
  PlanFile file = work.builder.finish();
  for (bool poison : {false, true})
    onRanks(
        file, 6,
        [&](Session *session, const std::string &why) {
          ASSERT_TRUE(session) << why;
          const int rank = session->rank();
          const int64_t data = rank / 3, expert = rank % 3;
          auto input = view<float>(*session, work.input);
          for (int64_t i = 0; i < 12; ++i)
            input[static_cast<size_t>(i)] = number(rank, i / 6, i % 6);
          Status status = session->run(0);
          ASSERT_TRUE(status) << status.error().str();
          auto at = [&](const plan::Slice &slice, int64_t index) {
            return view<float>(*session, slice)[static_cast<size_t>(index)];
          };
          for (int64_t row = 0; row < 2; ++row) {
            for (int64_t column = 0; column < 6; ++column) {
              // Over all six ranks: the sum of 0, 100, .. 500 and six times the rest.
              EXPECT_EQ(at(work.sum, row * 6 + column), 1500 + 6 * number(0, row, column));
              EXPECT_EQ(at(work.largest, row * 6 + column), number(5, row, column));
              EXPECT_EQ(at(work.partial, row * 6 + column), data == 0 ? number(rank, row, column) : 0);
            }
            for (int64_t column = 0; column < 18; ++column) {
              const auto from = static_cast<int>(data * 3 + column / 6);
              EXPECT_EQ(at(work.gathered, row * 18 + column), number(from, row, column % 6));
              EXPECT_EQ(at(work.padded, row * 18 + column), column / 6 == expert ? number(rank, row, column % 6) : 0);
            }
            for (int64_t column = 0; column < 2; ++column) {
              const int64_t mine = expert * 2 + column;
              EXPECT_EQ(at(work.part, row * 2 + column), number(rank, row, mine));
              const auto first = static_cast<int>(data * 3);
              EXPECT_EQ(at(work.scattered, row * 2 + column),
                        number(first, row, mine) + number(first + 1, row, mine) + number(first + 2, row, mine));
              for (int from = 0; from < 3; ++from)
                EXPECT_EQ(at(work.exchanged, from * 4 + row * 2 + column), number(first + from, row, mine));
            }
          }
        },
        60, poison);
}

TEST(Ranks, AGroupOfOneKeepsWhatItHas) {
  PlanBuilder builder(1);
  addAxis(builder, "data", 1);
  builder.program("update");
  plan::Slice input = builder.state(8 * 4), output = builder.state(8 * 4);
  plan::Step &step = addCollective(builder, plan::Collective::ALL_REDUCE, {0}, 8);
  addOperand(step, input, Operand::READ, plan::F32, {8});
  addOperand(step, output, Operand::WRITE, plan::F32, {8});
  auto session = open(builder.finish()); // without a communicator
  ASSERT_TRUE(session);
  std::ranges::fill(view<float>(*session, input), 2.5f);
  Status status = session->run(0);
  ASSERT_TRUE(status) << status.error().str();
  EXPECT_EQ(view<float>(*session, output)[7], 2.5f);
}

TEST(Ranks, APlanForAnotherNumberOfRanksIsRefused) {
  PlanFile file = Work().builder.finish();
  onRanks(file, 2, [](Session *session, const std::string &why) {
    EXPECT_FALSE(session);
    EXPECT_NE(why.find("this plan was compiled for 6 ranks"), std::string::npos) << why;
    EXPECT_NE(why.find("the run has 2 ranks, the plan's mesh is data=2 expert=3"), std::string::npos) << why;
    EXPECT_NE(why.find("run it with --ranks 6"), std::string::npos) << why;
  });
  PlanBuilder one(1);
  one.program("update");
  onRanks(one.finish(), 2, [](Session *session, const std::string &why) {
    EXPECT_FALSE(session);
    EXPECT_NE(why.find("this plan was compiled for one rank"), std::string::npos) << why;
  });
}

// One rank runs nothing: the others say which step waits for it, and where.
TEST(Ranks, AStepThatWaitsInVainIsNamed) {
  Work work;
  onRanks(
      work.builder.finish(), 6,
      [](Session *session, const std::string &why) {
        ASSERT_TRUE(session) << why;
        session->communicator()->setUpdate(3);
        if (session->rank() == 4)
          return;
        Status status = session->run(0);
        ASSERT_FALSE(status);
        std::string text = status.error().str();
        EXPECT_NE(text.find("where: rank " + std::to_string(session->rank()) +
                            ", update 3, program 'update', step 0 'collective'"),
                  std::string::npos)
            << text;
        EXPECT_NE(text.find("rank 4"), std::string::npos) << text;
      },
      0.3);
}

} // namespace
