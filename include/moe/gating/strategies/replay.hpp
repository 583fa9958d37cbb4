#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "../../core/alignment.hpp"
#include "../../core/borrowed.hpp"
#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/overlap.hpp"
#include "../backward.hpp"
#include "../selection.hpp"

namespace moe::inline MOE_ABI {

/// Routes as a recorded plan says: the token at position `first_position + t` gets the experts and weights of its row
/// t, in slot order. For rollouts that must be trained with the experts they were made with (router replay, as in
/// Megatron-LM's RouterReplay, which keeps the experts; here the weights are kept too), and to compare layers under
/// equal routing. A token's experts depend on its position alone, not on its batch; tokens of one position (see
/// ForwardOptions::positions) get the same ones. Padding gets none. W is the type of the recorded weights: float, or
/// double for equal bits in a layer of doubles.
///
/// Views the arrays of a PlanView that are in order of token: `Replay<>{plan.token_offsets, plan.experts,
/// plan.weights}`, or replay_of(plan). They must outlive the gate.
template <std::floating_point W = float>
struct Replay {
    Borrowed<const Index> token_offsets{};  ///< (n_recorded + 1)
    Borrowed<const ExpertId> experts{};     ///< (n_assignments)
    Borrowed<const W> weights{};            ///< (n_assignments)
    std::uint64_t first_position = 0;       ///< position of the token that row 0 was recorded for
    std::size_t most_per_token = 0;         ///< experts of a recorded token; 0: counted in every call

    static constexpr bool needs_logits = false;

    [[nodiscard]] std::size_t n_recorded() const { return token_offsets.empty() ? 0 : token_offsets.size() - 1; }

    /// The most experts of any recorded token, 1 at least: most_per_token, or O(n_recorded).
    [[nodiscard]] std::size_t max_per_token(int /*n_tokens*/, int /*n_experts*/) const {
        return most_per_token > 0 ? most_per_token : counted_most();
    }

    [[nodiscard]] std::size_t counted_most() const {
        Index most = 1;
        for (std::size_t t = 0; t < n_recorded(); ++t) {
            most = (std::max)(most, token_offsets[t + 1] - token_offsets[t]);
        }
        return most;
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return moe::overlapped(memory, {{"the recorded offsets", bytes_of(token_offsets)},
                                        {"the recorded experts", bytes_of(experts)},
                                        {"the recorded weights", bytes_of(weights)}});
    }

    /// Throws Error: arrays that cannot be those of a plan (shape, range, alignment), an expert beyond `n_experts`
    /// (range). O(n_assignments).
    void validate(std::size_t n_experts) const {
        require_aligned(token_offsets.data(), "Replay", "token_offsets");
        require_aligned(experts.data(), "Replay", "experts");
        require_aligned(weights.data(), "Replay", "weights");
        ensure(!token_offsets.empty(), ErrorCode::shape, "Replay: token_offsets is empty, it must begin with 0");
        ensure(experts.size() == weights.size(), ErrorCode::shape, "Replay: ", experts.size(), " experts and ",
               weights.size(), " weights");
        ensure(token_offsets.front() == 0 && token_offsets.back() == experts.size(), ErrorCode::range,
               "Replay: token_offsets go from ", token_offsets.front(), " to ", token_offsets.back(),
               ", they must go from 0 to ", experts.size(), ", the number of experts");
        for (std::size_t t = 0; t < n_recorded(); ++t) {
            ensure(token_offsets[t] <= token_offsets[t + 1], ErrorCode::range, "Replay: token_offsets descend at ", t);
        }
        ensure(most_per_token == 0 || most_per_token >= counted_most(), ErrorCode::range, "Replay: most_per_token is ",
               most_per_token, ", but a recorded token has ", counted_most(), " experts");
        for (std::size_t a = 0; a < experts.size(); ++a) {
            ensure(experts[a] >= 0 && std::cmp_less(experts[a], n_experts), ErrorCode::range, "Replay: assignment ", a,
                   " names expert ", experts[a], ", the experts are 0..", n_experts - 1);
        }
    }

    /// Throws Error(range) if a valid token was not recorded. O(assignments of the batch).
    template <std::floating_point T>
    void select(MatrixView<const T> /*logits*/, BatchSelection<T> out) const {
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            if (!out.is_valid(t)) {
                continue;
            }
            const std::uint64_t position = out.context(t).position;
            ensure(position >= first_position && position - first_position < n_recorded(), ErrorCode::range,
                   "Replay: the token at position ", position, " was not recorded; ", n_recorded(),
                   " tokens from position ", first_position, " were");
            const std::size_t row = detail::to_size(position - first_position);
            const Index first = token_offsets[row];
            const Index count = token_offsets[row + 1] - first;
            std::copy_n(experts.begin() + first, count, out.experts.row(t));
            std::transform(weights.begin() + first, weights.begin() + first + count, out.weights.row(t),
                           [](W weight) { return static_cast<T>(weight); });
        }
    }

    /// See DifferentiableGate: the recorded weights are constants, so the router learns nothing.
    template <std::floating_point T>
    void backward(std::span<const T> /*logits*/, const Chosen<T>& /*chosen*/, std::span<const T> /*d_weights*/,
                  std::span<T> /*d_logits*/) const {}
};

/// The gate that repeats `plan`, a PlanView<float> or PlanView<double> whose memory must outlive it. Counts its
/// most_per_token, which no call then does again.
template <class Plan>
[[nodiscard]] auto replay_of(const Plan& plan, std::uint64_t first_position = 0) {
    using W = typename decltype(plan.weights)::value_type;
    Replay<W> replay{plan.token_offsets, plan.experts, plan.weights, first_position};
    replay.most_per_token = replay.counted_most();
    return replay;
}

}  // namespace moe::inline MOE_ABI
