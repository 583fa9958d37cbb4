#pragma once

#include <vector>

#include <moe/stats/load.hpp>

namespace compare {

/// f_e = n_e / N of each expert; 0 where nothing was counted, so that a picture of them stays one.
template <moe::LoadCounts R>
[[nodiscard]] std::vector<double> load_shares(const R& counts) {
    const double total = moe::load_total(counts);
    std::vector<double> shares;
    for (const auto count : counts) {
        shares.push_back(total > 0 ? static_cast<double>(count) / total : 0.0);
    }
    return shares;
}

}  // namespace compare
