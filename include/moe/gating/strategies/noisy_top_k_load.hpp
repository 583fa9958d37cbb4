#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"
#include "../top_k.hpp"
#include "noisy_top_k.hpp"

/// The two quantities whose variation Shazeer et al. 2017 (1701.06538) add to the loss, section 4 and appendix A. No
/// allocation: the caller brings the memory.
namespace moe::inline MOE_ABI {

/// Importance(X), eq. 6: the sum of the weights that each expert gets, of a batch routed by whatever gate. `experts`
/// and `weights` (n_tokens, max_per_token), negative entries skipped; `sums` (n_experts), overwritten. Throws
/// Error(shape) where the two differ in shape, range for an expert beyond `sums`.
template <std::floating_point T>
void gate_importance(MatrixView<const ExpertId> experts, MatrixView<const T> weights, std::span<double> sums) {
    ensure(experts.rows() == weights.rows() && experts.cols() == weights.cols(), ErrorCode::shape,
           "gate_importance: experts are ", experts.rows(), " x ", experts.cols(), ", weights ", weights.rows(), " x ",
           weights.cols());
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t t = 0; t < experts.rows(); ++t) {
        for (std::size_t slot = 0; slot < experts.cols(); ++slot) {
            const ExpertId expert = experts(t, slot);
            if (expert >= 0) {
                ensure(static_cast<std::size_t>(expert) < sums.size(), ErrorCode::range, "gate_importance: expert ",
                       expert, " of ", sums.size());
                sums[static_cast<std::size_t>(expert)] += static_cast<double>(weights(t, slot));
            }
        }
    }
}

/// CV(x)^2, the squared coefficient of variation of eq. 7 and 11: variance by mean squared, over all values; 0 where
/// they are all 0 or there are none.
[[nodiscard]] inline double squared_variation(std::span<const double> values) {
    double sum = 0;
    for (const double value : values) {
        sum += value;
    }
    const double mean = values.empty() ? 0 : sum / static_cast<double>(values.size());
    if (mean == 0) {
        return 0;
    }
    double squares = 0;
    for (const double value : values) {
        squares += (value - mean) * (value - mean);
    }
    return squares / static_cast<double>(values.size()) / (mean * mean);
}

/// Load(X), eq. 8 to 10: adds to `loads` (n_experts) for one token the probability that it would take each expert if
/// only that expert's noise were drawn anew,
///
///     P(e) = Phi((l_e - kth_excluding(H, k, e)) / (softplus(n_e) + 0.01))
///
/// and without noise (`gate.training` is false, or the deviation is 0) 1 for its top k. The kth greatest H of the
/// others is that of the expert in place k, or of the next one for those within the top k; with k = n_experts every P
/// is 1. `logits` (2 n_experts); `noisy` and `order` (n_experts) are memory to use. Call it for every token after
/// setting `loads` to 0; a sum over tokens in their order has the same bits every time. Throws Error(shape), and
/// whatever gate.validate refuses. O(n_experts top_k).
template <std::floating_point T>
void add_noisy_load(const NoisyTopK& gate, std::span<const T> logits, std::uint64_t position, std::span<T> noisy,
                    std::span<ExpertId> order, std::span<double> loads) {
    const std::size_t n_experts = loads.size();
    ensure(logits.size() == 2 * n_experts && noisy.size() == n_experts && order.size() == n_experts, ErrorCode::shape,
           "add_noisy_load: ", logits.size(), " logits, memory for ", noisy.size(), " and ", order.size(),
           " values, loads of ", n_experts, " experts");
    gate.validate(n_experts);
    const auto k = static_cast<std::size_t>(gate.top_k);
    gate.add_noise(logits, position, noisy);
    const std::span<ExpertId> best = order.first((std::min)(k + 1, n_experts));
    detail::top_k<T>(noisy, best);
    const auto place = [&](std::size_t slot) {
        return static_cast<double>(noisy[static_cast<std::size_t>(best[slot])]);
    };
    for (std::size_t e = 0; e < n_experts; ++e) {
        const auto top = best.first(k);
        const bool within = std::find(top.begin(), top.end(), static_cast<ExpertId>(e)) != top.end();
        const double deviation = gate.deviation(logits, e);
        if (k == n_experts || !gate.training || deviation == 0) {
            loads[e] += within ? 1 : 0;
            continue;
        }
        const double threshold = within ? place(k) : place(k - 1);
        const double distance = (static_cast<double>(logits[e]) - threshold) / deviation;
        loads[e] += std::erfc(-distance / std::numbers::sqrt2) / 2;
    }
}

}  // namespace moe::inline MOE_ABI
