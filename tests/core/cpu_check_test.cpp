// The processor that built the tests runs them, so nothing may be missing.
#include "core/cpu_check.h"

#include <doctest/doctest.h>

TEST_SUITE_BEGIN("core/cpu_check");

TEST_CASE("this processor can run what was compiled for it") {
  CHECK(llsa::missing_cpu_feature() == nullptr);
  CHECK(llsa::compiled_cpu_features() != nullptr);
}

TEST_SUITE_END();
