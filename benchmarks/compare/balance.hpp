#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "progress.hpp"
#include "report.hpp"
#include "routed_input.hpp"
#include "strategies.hpp"

namespace compare {

/// How each strategy spreads the tokens of each input; `calibrations` has one for each input. Figures depend on the
/// arguments only.
[[nodiscard]] std::vector<BalanceRow> measure_balance(std::span<const RoutedInput> inputs,
                                                      std::span<const Calibration> calibrations,
                                                      std::span<const Strategy* const> strategies, std::uint64_t seed,
                                                      Progress& progress);

/// Work of that, in guessed seconds.
[[nodiscard]] double balance_work(std::span<const RoutedInput> inputs, std::size_t n_strategies);

}  // namespace compare
