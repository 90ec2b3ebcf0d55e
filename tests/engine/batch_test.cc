#include "engine/batch.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(Batch, CutsChunksOnTheGridOfTheSequencesOwnPositions) {
  std::vector<int32_t> tokens(200);
  std::iota(tokens.begin(), tokens.end(), 0);
  Batch batch;
  batch.AddDecode(7, 3, 41);
  batch.AddSegment(tokens.data(), 130, 1, 0);
  batch.AddSegment(tokens.data() + 10, 60, 2, 100);

  ASSERT_EQ(batch.rows(), 191);
  EXPECT_EQ(batch.tokens[0], 7);
  EXPECT_EQ(batch.tokens[1], 0);
  EXPECT_EQ(batch.tokens[131], 10);
  ASSERT_EQ(batch.positions.size(), batch.tokens.size());
  EXPECT_EQ(batch.positions[0], 41);
  EXPECT_EQ(batch.positions[1], 0);
  EXPECT_EQ(batch.positions[130], 129);
  EXPECT_EQ(batch.positions[131], 100);
  EXPECT_EQ(batch.positions[190], 159);
  ASSERT_EQ(batch.segments.size(), 2);
  EXPECT_EQ(batch.segments[1].row, 131);
  EXPECT_EQ(batch.segments[1].first_chunk, 3);

  // 0..129 is cut at 64 and 128; 100..159 at 128.
  const std::vector<std::vector<int32_t>> expected = {
      {0, 1, 64}, {0, 65, 64}, {0, 129, 2}, {1, 131, 28}, {1, 159, 32}};
  ASSERT_EQ(batch.chunks.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const ChunkSpan& chunk = batch.chunks[i];
    EXPECT_EQ((std::vector<int32_t>{chunk.segment, chunk.row, chunk.length}), expected[i]) << i;
  }
  EXPECT_EQ(ChunkCount(0, 130) + ChunkCount(100, 60), 5);
}

TEST(Batch, RefusesDecodeRowsAfterSegments) {
  const int32_t token = 0;
  Batch batch;
  batch.AddSegment(&token, 1, 0, 0);
  EXPECT_DEATH(batch.AddDecode(0, 1, 0), "check failed");
}

}  // namespace
}  // namespace sluice
