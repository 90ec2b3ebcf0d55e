#include "server/pending_output.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice {
namespace {

OutputToken Token(int32_t id, size_t top = 0) {
  OutputToken token{id, -0.5F, {}};
  for (size_t i = 0; i < top; ++i) token.top.push_back({static_cast<int32_t>(i), -1.0F});
  return token;
}

TEST(PendingOutput, MergesIncrementsIntoOneMessageInOrder) {
  PendingOutput pending(/*logprobs=*/false);
  pending.Add({"ab", {Token(1), Token(2)}});
  pending.Add({"c", {Token(3)}});
  const v1::GenerateResponse message = pending.Take();
  EXPECT_EQ(message.text(), "abc");
  ASSERT_EQ(message.token_ids_size(), 3);
  EXPECT_EQ(message.token_ids(2), 3U);
  EXPECT_EQ(message.logprobs_size(), 0);
  EXPECT_TRUE(pending.empty());
  EXPECT_EQ(pending.bytes(), 0U);
}

TEST(PendingOutput, GivesEveryTokenALogprobIfAsked) {
  PendingOutput pending(/*logprobs=*/true);
  pending.Add({"", {OutputToken{7, std::nullopt, {}}, Token(8, 2)}});
  const v1::GenerateResponse message = pending.Take();
  ASSERT_EQ(message.logprobs_size(), 2);
  EXPECT_FALSE(message.logprobs(0).has_logprob());
  EXPECT_FLOAT_EQ(message.logprobs(1).logprob(), -0.5F);
  ASSERT_EQ(message.logprobs(1).top_size(), 2);
  EXPECT_EQ(message.logprobs(1).top(1).token_id(), 1U);
}

TEST(PendingOutput, SplitsLongTextAtTheEndsOfCharacters) {
  std::string text = "a";  // so that the limit falls inside a character
  while (text.size() < 3 * PendingOutput::kMessageBytes) text += "\u20AC";
  PendingOutput pending(/*logprobs=*/false);
  pending.Add({text, {}});
  std::string joined;
  int messages = 0;
  while (!pending.empty()) {
    const v1::GenerateResponse message = pending.Take();
    EXPECT_LE(message.text().size(), PendingOutput::kMessageBytes);
    EXPECT_NE(static_cast<unsigned char>(message.text()[0]) & 0xC0U, 0x80U);
    joined += message.text();
    ++messages;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(messages, 4);
}

TEST(PendingOutput, SplitsManyTokensIntoMessagesThatClientsAccept) {
  PendingOutput pending(/*logprobs=*/true);
  Output output;
  for (int i = 0; i < 20'000; ++i) output.tokens.push_back(Token(i, 20));
  pending.Add(output);
  uint32_t next = 0;
  while (!pending.empty()) {
    const size_t before = pending.bytes();
    const v1::GenerateResponse message = pending.Take();
    EXPECT_LE(message.ByteSizeLong(), PendingOutput::kMessageBytes);
    EXPECT_GE(before - pending.bytes(), message.ByteSizeLong()) << "bytes() is an upper bound";
    for (const uint32_t id : message.token_ids()) EXPECT_EQ(id, next++);
  }
  EXPECT_EQ(next, 20'000U);
}

TEST(PendingOutput, FinishesInTheLastMessageAlone) {
  PendingOutput pending(/*logprobs=*/false);
  pending.Add({std::string(PendingOutput::kMessageBytes, 'x'), {}});
  Outcome outcome;
  outcome.reason = FinishReason::kStop;
  outcome.stop_string = "END";
  outcome.prompt_tokens = 5;
  outcome.output_tokens = 6;
  outcome.seed = 77;
  pending.AddFinished(outcome);
  EXPECT_FALSE(pending.Take().has_finished());
  const v1::GenerateResponse last = pending.Take();
  ASSERT_TRUE(last.has_finished());
  EXPECT_EQ(last.finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(last.finished().stop(), "END");
  EXPECT_EQ(last.finished().usage().prompt_tokens(), 5U);
  EXPECT_EQ(last.finished().usage().output_tokens(), 6U);
  EXPECT_EQ(last.finished().seed(), 77U);
  EXPECT_TRUE(pending.empty());
}

}  // namespace
}  // namespace sluice
