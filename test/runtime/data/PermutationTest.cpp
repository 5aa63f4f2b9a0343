//===- PermutationTest.cpp - The shuffle is a permutation --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Permutation.h"

#include <cmath>
#include <gtest/gtest.h>
#include <vector>

using moe::Permutation;

// A Feistel round that loses bits, or a walk that leaves the domain, visits an element twice.
TEST(Permutation, VisitsEveryElementOnce) {
  for (uint64_t size = 1; size <= 600; size = size < 70 ? size + 1 : size + 37)
    for (uint64_t epoch : {0, 1, 9}) {
      Permutation permutation(size, 5, epoch);
      std::vector<int> seen(size);
      for (uint64_t i = 0; i < size; ++i) {
        uint64_t value = permutation(i);
        ASSERT_LT(value, size);
        ++seen[value];
      }
      for (uint64_t i = 0; i < size; ++i)
        ASSERT_EQ(seen[i], 1) << "size " << size << " element " << i;
    }
}

// Values of an independent Python implementation of the formula in the header: any change breaks --resume of old runs.
TEST(Permutation, IsTheDocumentedFunction) {
  const uint64_t expected[] = {14, 2, 9, 10, 17, 13, 4, 8, 6, 7, 3, 19, 11, 5, 0, 1, 18, 12, 16, 15};
  Permutation small(20, 7, 3);
  for (uint64_t i = 0; i < 20; ++i)
    EXPECT_EQ(small(i), expected[i]);
  Permutation large(1000003, 1, 2);
  EXPECT_EQ(large(0), 40209u);
  EXPECT_EQ(large(1), 635968u);
  EXPECT_EQ(large(999999), 211621u);
}

// An epoch or a seed that did not enter the key would repeat the order. A random order keeps about one element in
// place.
TEST(Permutation, DependsOnSeedAndEpoch) {
  const uint64_t size = 5000;
  Permutation base(size, 1, 0), epoch(size, 1, 1), seed(size, 2, 0);
  int sameEpoch = 0, sameSeed = 0, inPlace = 0, neighbours = 0;
  for (uint64_t i = 0; i < size; ++i) {
    sameEpoch += base(i) == epoch(i);
    sameSeed += base(i) == seed(i);
    inPlace += base(i) == i;
    neighbours += i > 0 && base(i) == base(i - 1) + 1;
  }
  for (int count : {sameEpoch, sameSeed, inPlace, neighbours})
    EXPECT_LE(count, 9); // Poisson(1): P(more than 9) = 1e-7
}

// The rank correlation of place and value of a random order is 0 +- 1/sqrt(size).
TEST(Permutation, HasNoTrend) {
  const uint64_t size = 40000;
  Permutation permutation(size, 3, 4);
  double sum = 0, middle = (size - 1) / 2.0;
  for (uint64_t i = 0; i < size; ++i)
    sum += (double(i) - middle) * (double(permutation(i)) - middle);
  double correlation = sum / (double(size) * (double(size) * double(size) - 1) / 12);
  EXPECT_LT(std::fabs(correlation), 5 / std::sqrt(double(size)));
}
