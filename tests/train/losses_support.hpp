#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/reference/backward/loss/load_balance.hpp"
#include "moe/train/parts/tape.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

/// Batches whose routing is written down, as the tapes of a forward pass that nobody ran.
namespace moe_test {

/// Set what the routing shall be, then record().
template <class T>
struct LossCase {
    std::size_t n_experts = 0;
    std::size_t n_slots = 0;
    std::size_t n_logits = 0;
    std::vector<T> logits{};                 // (n_tokens, n_logits)
    std::vector<moe::ExpertId> choices{};    // (n_tokens, n_slots)
    std::vector<T> weights{};                // (n_tokens, n_slots)
    std::vector<std::uint8_t> valid{};       // (n_tokens) or empty
    std::vector<std::uint64_t> positions{};  // (n_tokens) or empty
    bool plan_was_given = false;
    moe::Tape<T> tape{};
    moe::Workspace workspace{};

    LossCase() = default;

    /// Random logits, the top k of each token, random weights.
    LossCase(std::size_t n_tokens, std::size_t experts, std::size_t k, std::uint64_t seed, double size = 3)
        : n_experts(experts), n_slots(k), n_logits(experts) {
        Draw draw(seed);
        logits = random_elements<T>(draw, n_tokens * n_logits, size);
        weights = random_elements<T>(draw, n_tokens * k, 1);
        choose();
        record();
    }
    LossCase(const LossCase&) = delete;
    LossCase& operator=(const LossCase&) = delete;

    [[nodiscard]] std::size_t n_tokens() const { return n_slots == 0 ? 0 : weights.size() / n_slots; }
    [[nodiscard]] moe::reference::Vector logits_of(std::size_t t) const {
        const auto row = logits.begin() + static_cast<std::ptrdiff_t>(t * n_logits);
        return {row, row + static_cast<std::ptrdiff_t>(n_logits)};
    }

    /// The top k of every token's logits become its choices.
    void choose() {
        choices.clear();
        for (std::size_t t = 0; t < n_tokens(); ++t) {
            moe::reference::Vector row = logits_of(t);
            row.resize(n_experts);
            const auto best = moe::reference::top_k(row, n_slots);
            choices.insert(choices.end(), best.begin(), best.end());
        }
    }
    /// Some choices lose their place, some slots stay empty.
    void drop(std::uint64_t seed) {
        Draw draw(seed);
        for (moe::ExpertId& e : choices) {
            const std::size_t fate = draw.size(0, 5);
            e = fate == 0 ? moe::dropped(e) : (fate == 1 ? moe::no_expert : e);
        }
    }

    /// Fills the tape as a forward pass would: tokens of padding have no choices.
    void record() {
        std::vector<moe::ExpertId> made = choices;
        for (std::size_t i = 0; i < made.size(); ++i) {
            made[i] = valid.empty() || valid[i / n_slots] != 0 ? made[i] : moe::no_expert;
        }
        std::vector<moe::ExpertId> kept = made;
        for (moe::ExpertId& e : kept) {
            e = std::max(e, moe::no_expert);
        }
        const std::size_t n = n_tokens();
        moe::RoutingPlan<T> plan;
        plan.assign(moe::view(std::as_const(kept).data(), n, n_slots),
                    moe::view(std::as_const(weights).data(), n, n_slots), n_experts);
        x_.assign(n, T(0));
        moe::ForwardOptions<T> options;
        options.positions = positions;
        moe::TapeRecorder<T> recorder(tape, moe::TapeOwner{}, moe::view(std::as_const(x_).data(), n, 1), options);
        moe::RoutingRecord<T> record{plan.view(), {}, {}, valid};
        if (!plan_was_given) {
            record.logits = moe::view(std::as_const(logits).data(), n, n_logits);
            record.choices = moe::view(std::as_const(made).data(), n, n_slots);
        }
        recorder.on_plan(record);
        recorder.finish();
    }

    /// What the definition is given: tokens that are no padding.
    [[nodiscard]] std::vector<moe::reference::Vector> reference_logits() const {
        std::vector<moe::reference::Vector> result;
        for (std::size_t t = 0; t < n_tokens(); ++t) {
            if (tape.is_valid(t)) {
                result.push_back(logits_of(t));
            }
        }
        return result;
    }
    [[nodiscard]] std::vector<moe::reference::Choice> reference_choices() const {
        std::vector<moe::reference::Choice> result;
        for (std::size_t t = 0; t < n_tokens(); ++t) {
            if (tape.is_valid(t)) {
                const auto first = static_cast<std::ptrdiff_t>(t * n_slots);
                const auto last = first + static_cast<std::ptrdiff_t>(n_slots);
                result.push_back({{choices.begin() + first, choices.begin() + last},
                                  {weights.begin() + first, weights.begin() + last}});
            }
        }
        return result;
    }

    [[nodiscard]] std::vector<T> d_logits() {
        const auto gradients = tape.d_logits();
        return {gradients.data(), gradients.data() + gradients.rows() * gradients.cols()};
    }
    [[nodiscard]] std::vector<T> d_weights() { return {tape.d_weights().begin(), tape.d_weights().end()}; }

private:
    std::vector<T> x_{};
};

/// Empty if `d_logits` is `factor` times the gradients of the tokens that are no padding, and 0 for padding; else what
/// differs. Gradients are computed in double and rounded once to T: half an epsilon of each, and for the double part
/// `relative` of the greatest.
template <class T>
std::string gradient_difference(LossCase<T>& c, const std::vector<moe::reference::Vector>& expected, double factor,
                                double relative = 1e-12) {
    double greatest = 0;
    for (const auto& row : expected) {
        for (const double d : row) {
            greatest = std::max(greatest, std::abs(d));
        }
    }
    const std::vector<T> actual = c.d_logits();
    std::size_t row = 0;
    for (std::size_t t = 0; t < c.n_tokens(); ++t) {
        const bool is_valid = c.tape.is_valid(t);
        for (std::size_t e = 0; e < c.n_logits; ++e) {
            const double d = is_valid ? factor * expected[row][e] : 0;
            const double bound = is_valid ? static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * std::abs(d) +
                                                relative * std::abs(factor) * greatest
                                          : 0;
            const auto value = static_cast<double>(actual[t * c.n_logits + e]);
            const bool close = std::abs(value - d) <= bound;
            if (!close) {
                return "token " + std::to_string(t) + ", logit " + std::to_string(e) + ": " + std::to_string(value) +
                       " instead of " + std::to_string(d);
            }
        }
        row += is_valid ? 1U : 0U;
    }
    return row == expected.size() ? std::string() : "the definition has another number of tokens";
}

}  // namespace moe_test
