#include "routing.hpp"

#include <algorithm>
#include <numeric>

#include <moe/core/random.hpp>

namespace bench {

std::vector<double> popularity(std::size_t n_experts, Routing routing) {
    std::vector<std::size_t> rank(n_experts);
    std::iota(rank.begin(), rank.end(), std::size_t{0});
    std::ranges::sort(rank, {}, [](std::size_t e) { return moe::random_bits(11, e); });
    std::vector<double> weights(n_experts, 1.0);
    for (std::size_t e = 0; routing == Routing::zipf && e < n_experts; ++e) {
        weights[e] = 1.0 / static_cast<double>(rank[e] + 1);
    }
    return weights;
}

RoutingTable::RoutingTable(const Shape& shape, Routing routing, std::size_t tokens)
    : n_experts_(shape.n_experts), top_k_(shape.top_k), tokens_(tokens), variants_(tokens <= 64 ? 64 : 8) {
    std::vector<double> sums = popularity(n_experts_, routing);
    std::partial_sum(sums.begin(), sums.end(), sums.begin());
    const std::size_t rows = variants_ * tokens_;
    experts_.resize(rows * top_k_);
    std::uint64_t draw = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        const auto chosen = std::span<std::int32_t>(experts_).subspan(row * top_k_, top_k_);
        for (std::size_t slot = 0; slot < top_k_;) {
            if (routing == Routing::one) {
                chosen[slot++] = static_cast<std::int32_t>(row / tokens_ % n_experts_);
                continue;
            }
            const double at = static_cast<double>(moe::random_uniform(7, draw++)) * sums.back();
            const auto expert = static_cast<std::int32_t>(std::ranges::upper_bound(sums, at) - sums.begin());
            const auto before = chosen.first(slot);
            if (std::ranges::find(before, expert) == before.end()) {
                chosen[slot++] = expert;
            }
        }
    }
    ids_.resize(rows);
    std::iota(ids_.begin(), ids_.end(), 0);
}

std::size_t RoutingTable::distinct(std::size_t variant) const {
    std::vector<bool> seen(n_experts_);
    for (std::size_t i = 0; i < tokens_ * top_k_; ++i) {
        seen[static_cast<std::size_t>(experts_[variant * tokens_ * top_k_ + i])] = true;
    }
    return static_cast<std::size_t>(std::ranges::count(seen, true));
}

double RoutingTable::mean_distinct() const {
    double sum = 0;
    for (std::size_t variant = 0; variant < variants_; ++variant) {
        sum += static_cast<double>(distinct(variant));
    }
    return sum / static_cast<double>(variants_);
}

}  // namespace bench
