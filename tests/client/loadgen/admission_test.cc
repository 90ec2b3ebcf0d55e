#include "client/loadgen/admission.h"

#include <gtest/gtest.h>

#include <limits>
#include <thread>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

LoadWindow Window(int64_t begin_ns, int64_t end_ns) {
  LoadWindow window;
  window.begin_ns = begin_ns;
  window.end_ns = end_ns;
  return window;
}

TEST(Admission, MeasuresWhatIsDueInTheWindow) {
  Admission admission(Window(100, 200), /*requests=*/0, kForever);
  EXPECT_FALSE(admission.Admit(99)->measured);
  EXPECT_TRUE(admission.Admit(100)->measured);
  EXPECT_EQ(admission.Admit(199)->index, 2);
  EXPECT_FALSE(admission.Admit(200).has_value());
}

TEST(Admission, AdmitsAsManyAsWanted) {
  Admission admission(Window(100, kForever), /*requests=*/2, kForever);
  EXPECT_TRUE(admission.Admit(1).has_value());  // not measured
  EXPECT_TRUE(admission.Admit(100).has_value());
  EXPECT_TRUE(admission.Admit(101).has_value());
  EXPECT_FALSE(admission.Admit(102).has_value());
  admission.AwaitClosed();
}

TEST(Admission, SaysWhatWouldBeTooMuchInFlight) {
  Admission admission(Window(0, kForever), /*requests=*/0, /*max_in_flight=*/1);
  EXPECT_TRUE(admission.Admit(1)->in_flight);
  EXPECT_FALSE(admission.Admit(2)->in_flight);
  admission.Leave();
  EXPECT_TRUE(admission.Admit(3)->in_flight);
  EXPECT_EQ(admission.in_flight(), 1);
}

// A pause that is over when the last request has just ended must not begin another one.
TEST(Admission, AdmitsNothingOnceItWasFoundIdle) {
  Admission admission(Window(0, kForever), /*requests=*/0, kForever);
  EXPECT_TRUE(admission.Admit(1).has_value());
  EXPECT_FALSE(admission.CloseWhenIdle(MonotonicNs()));
  EXPECT_TRUE(admission.Admit(2).has_value());
  std::thread ends([&] {
    admission.Leave();
    admission.Leave();
  });
  EXPECT_TRUE(admission.CloseWhenIdle(kForever / 2));
  EXPECT_FALSE(admission.Admit(3).has_value());
  ends.join();
}

TEST(Admission, AnOpenLoopSleepsUntilItIsClosed) {
  Admission admission(Window(0, kForever), /*requests=*/0, kForever);
  EXPECT_TRUE(admission.SleepUntil(MonotonicNs() + 1));
  admission.Close();
  EXPECT_FALSE(admission.SleepUntil(kForever / 2));
  admission.AwaitClosed();
}

}  // namespace
}  // namespace sluice
