#include "engine/tokenizer/nfc.h"

#include <string>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(Nfc, LeavesPlainTextAlone) {
  EXPECT_EQ(ToNfc(""), "");
  EXPECT_EQ(ToNfc("plain \u00E9 \u017F"), "plain \u00E9 \u017F");
}

TEST(Nfc, ComposesDecomposesAndOrders) {
  EXPECT_EQ(ToNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(ToNfc("\u212B"), "\u00C5");                // a singleton: the angstrom sign
  EXPECT_EQ(ToNfc("a\u0301\u0323"), "\u1EA1\u0301");   // the dot below comes first
  EXPECT_EQ(ToNfc("\u0344"), "\u0308\u0301");          // excluded from composition
  EXPECT_EQ(ToNfc("\u0301e\u0301"), "\u0301\u00E9");   // a mark with nothing before it
  EXPECT_EQ(ToNfc("q\u0301\u0301"), "q\u0301\u0301");  // nothing to compose with
  EXPECT_EQ(ToNfc("\u1112\u1161\u11AB"), "\uD55C");    // Hangul, by arithmetic
  EXPECT_EQ(ToNfc("\uD55C"), "\uD55C");
}

TEST(Nfc, OrdersALongRunOfMarks) {
  std::string text = "q";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string result = ToNfc(text);
  EXPECT_EQ(result.substr(0, 5), "q\u0323\u0323");
  EXPECT_EQ(result.size(), text.size());
}

}  // namespace
}  // namespace sluice
