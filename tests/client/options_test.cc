#include "client/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Fixture {
  Fixture() {
    table.Section("Things");
    table.Flag("loud", &loud, "Makes it loud.");
    table.Text("name", "TEXT", &name, "Names it.");
    table.Number("heat", "X", &heat, "Heats it.");
    table.Integer("count", "N", &count, "Counts it.");
  }

  absl::Status Parse(const std::vector<std::string>& args) { return table.Parse(args, &operands); }

  bool loud = false;
  std::string name;
  std::optional<float> heat;
  std::optional<int64_t> count;
  std::vector<std::string> operands;
  OptionTable table;
};

TEST(OptionTable, ReadsBothSpellingsAndKeepsOperandsInOrder) {
  Fixture f;
  ASSERT_TRUE(f.Parse({"one", "--name=a=b", "--heat", "-1.5", "--loud", "-", "--count=-3"}).ok());
  EXPECT_EQ(f.name, "a=b");
  EXPECT_EQ(f.heat, -1.5F);
  EXPECT_EQ(f.count, -3);
  EXPECT_TRUE(f.loud);
  EXPECT_THAT(f.operands, ElementsAre("one", "-"));
}

TEST(OptionTable, LeavesTargetsAloneThatAreNotGiven) {
  Fixture f;
  ASSERT_TRUE(f.Parse({}).ok());
  EXPECT_FALSE(f.heat.has_value());
  EXPECT_FALSE(f.count.has_value());
  EXPECT_FALSE(f.loud);
}

TEST(OptionTable, TakesEverythingBehindTwoDashesAsOperands) {
  Fixture f;
  ASSERT_TRUE(f.Parse({"--loud", "--", "--name", "-x"}).ok());
  EXPECT_THAT(f.operands, ElementsAre("--name", "-x"));
}

TEST(OptionTable, TakesTheLastOfARepeatedOption) {
  Fixture f;
  ASSERT_TRUE(f.Parse({"--name", "a", "--name", "b"}).ok());
  EXPECT_EQ(f.name, "b");
}

struct BadLine {
  std::vector<std::string> args;
  const char* message;
};

TEST(OptionTable, SaysWhichOptionIsWrongAndWhy) {
  const BadLine bad_lines[] = {
      {{"--lout"}, "no option --lout"},
      {{"-l"}, "no option -l"},
      {{"--loud=yes"}, "--loud takes no value"},
      {{"--name"}, "--name needs a value: TEXT"},
      {{"--heat", "warm"}, "--heat: \"warm\" is not a number"},
      {{"--heat="}, "--heat: \"\" is not a number"},
      {{"--count", "1.5"}, "--count: \"1.5\" is not a whole number"},
      {{"--count", "99999999999999999999"}, "--count: "},
      {{"--Things", "x"}, "no option --Things"},
  };
  for (const BadLine& bad : bad_lines) {
    Fixture f;
    const absl::Status status = f.Parse(bad.args);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

TEST(OptionTable, HelpNamesEveryOptionWithinEightyColumns) {
  Fixture f;
  f.table.Flag("long", &f.loud,
               "A help text that is so long that it has to be broken into lines, since terminals "
               "have an end.");
  const std::string help = f.table.Help();
  EXPECT_THAT(help, HasSubstr("Things:\n"));
  EXPECT_THAT(help, HasSubstr("  --heat X                    Heats it.\n"));
  EXPECT_THAT(help, HasSubstr("  --loud                      Makes it loud.\n"));
  for (const absl::string_view line : absl::StrSplit(help, '\n'))
    EXPECT_LE(line.size(), 80U) << line;
}

TEST(OptionTable, HelpIsAskedForByItselfButNotBehindTwoDashes) {
  EXPECT_TRUE(AsksForHelp({"--name", "x", "-h"}));
  EXPECT_TRUE(AsksForHelp({"--help"}));
  EXPECT_FALSE(AsksForHelp({"--", "--help"}));
  EXPECT_FALSE(AsksForHelp({"help"}));
}

}  // namespace
}  // namespace sluice
