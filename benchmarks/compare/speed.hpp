#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "../shapes.hpp"
#include "../threads.hpp"
#include "logits.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "strategies.hpp"

namespace compare {

/// Names of the two dense networks in the rows: as wide as the experts of a token (top_k * d_ff), and as all experts
/// (n_experts * d_ff).
inline constexpr std::string_view dense_active = "FFN of k experts";
inline constexpr std::string_view dense_total = "FFN of all experts";

struct SpeedPlan {
    std::span<const Strategy* const> strategies;
    std::span<const std::size_t> tokens;
    Distribution distribution = Distribution::uniform;
    std::uint64_t seed = 0;
    bool quick = false;
};

/// One layer of a shape, its experts random and packed in bfloat16, that every strategy reads, and the dense networks.
/// Shared experts of the model are left out.
class SpeedSession {
public:
    SpeedSession(const bench::Shape& shape, const SpeedPlan& plan, const bench::Threads& threads);
    SpeedSession(const SpeedSession&) = delete;
    SpeedSession& operator=(const SpeedSession&) = delete;
    ~SpeedSession();

    /// A row for every strategy that can choose among so many experts, and for the dense networks. They take turns, on
    /// the same tokens, in alternating order. Throws moe::Error(range) where the result of one is wrong.
    [[nodiscard]] std::vector<SpeedRow> measure(std::size_t tokens, Progress& progress);

    /// Bytes the weights of all arms take.
    [[nodiscard]] static double bytes(const bench::Shape& shape);

    /// Work of a call of `measure`, in guessed seconds.
    [[nodiscard]] static double work(const bench::Shape& shape, std::size_t tokens, const SpeedPlan& plan,
                                     const bench::Threads& threads);

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace compare
