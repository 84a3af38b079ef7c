// Runs work that launches kernels in all lane orders of the emulator and wants the same bits every time; on
// a device, where the order is the device's own, just twice.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#ifdef SIMT_EMU
#include "../../emu/emulator.h"
#endif

namespace llsa::test {

/// The result of run() -> std::vector<T>, which is the same in all orders.
template <class F>
auto for_all_orders(F run) {
  const auto same = [](const auto& a, const auto& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
  };
#ifdef SIMT_EMU
  const emu::WithSettings restore(emu::settings());
  emu::set_settings(emu::parse_order("fwd"));
  const auto first = run();
  for (const char* const order : {"rev", "rnd:1", "rnd:2"}) {
    INFO("order ", order);
    emu::set_settings(emu::parse_order(order));
    CHECK(same(run(), first));
  }
#else
  const auto first = run();
  CHECK(same(run(), first));
#endif
  return first;
}

}  // namespace llsa::test
