// The published compositions, each against the procedure of its source, written as plain loops over whole matrices.

#include "moe/gating/adaptors/capacity_presets.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "moe/gating/any_gate.hpp"
#include "moe/reference/routing.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::capacity_presets_test {

namespace reference = moe::reference;
using moe_test::choose_batch;
using moe_test::difference;
using reference::Vector;
using Matrix = std::vector<Vector>;

namespace {

Matrix zeros(std::size_t n_tokens, std::size_t n_experts) { return Matrix(n_tokens, Vector(n_experts, 0)); }

struct Batch {
    Vector logits;  // (n_tokens, n_experts)
    std::size_t n_experts;
    std::vector<std::uint8_t> valid{};

    [[nodiscard]] std::size_t n_tokens() const { return logits.size() / n_experts; }
    [[nodiscard]] bool is_valid(std::size_t t) const { return valid.empty() || valid[t] != 0; }
    [[nodiscard]] Vector row(std::size_t t) const {
        const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * n_experts);
        return {first, first + static_cast<std::ptrdiff_t>(n_experts)};
    }
};

Batch random_batch(moe_test::Dice& dice) {
    Batch batch{{}, 2 + dice.below(9)};
    batch.logits.resize((1 + dice.below(60)) * batch.n_experts);
    for (double& l : batch.logits) {
        l = static_cast<double>(dice.uniform(-2, 2));
    }
    return batch;
}

/// The weight of each expert for each token, 0 where it has none.
template <class G>
Matrix weights_of(const G& gate, const Batch& batch) {
    const auto rows =
        choose_batch<double>(gate, batch.logits, batch.n_tokens(), batch.n_experts, {.valid = batch.valid});
    Matrix weights = zeros(batch.n_tokens(), batch.n_experts);
    for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
        const auto kept = rows.kept(t);
        for (std::size_t slot = 0; slot < kept.experts.size(); ++slot) {
            weights[t][static_cast<std::size_t>(kept.experts[slot])] = kept.weights[slot];
        }
    }
    return weights;
}

bool same(const Matrix& a, const Matrix& b) {
    bool equal = a.size() == b.size();
    for (std::size_t t = 0; equal && t < a.size(); ++t) {
        equal = difference(a[t], b[t], 1e-14).empty();
    }
    return equal;
}

/// Switch: in each sequence the first `capacity` tokens of an expert.
Matrix switch_weights(const Batch& batch, std::size_t capacity, std::size_t sequence) {
    Matrix weights = zeros(batch.n_tokens(), batch.n_experts);
    Vector used(batch.n_experts, 0);
    for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
        if (sequence != 0 && t % sequence == 0) {
            std::fill(used.begin(), used.end(), 0.0);
        }
        const auto e = static_cast<std::size_t>(reference::top_k(batch.row(t), 1)[0]);
        if (used[e]++ < static_cast<double>(capacity)) {
            weights[t][e] = reference::softmax(batch.row(t))[e];
        }
    }
    return weights;
}

/// NLLB-MoE: masks of first and second choices, locations as running counts, second ones behind all first ones.
Matrix nllb_weights(const Batch& batch, double capacity, bool by_priority) {
    const std::size_t n_tokens = batch.n_tokens();
    std::vector<std::size_t> order(n_tokens);
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (by_priority) {
        const auto greatest = [&](std::size_t t) {
            const Vector p = reference::softmax(batch.row(t));
            return *std::max_element(p.begin(), p.end());
        };
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return greatest(a) != greatest(b) ? greatest(a) > greatest(b) : a < b;
        });
    }
    Matrix kept = zeros(n_tokens, batch.n_experts);
    Vector location(batch.n_experts, 0);
    for (std::size_t slot = 0; slot < 2; ++slot) {
        for (const std::size_t t : order) {
            const auto e = static_cast<std::size_t>(reference::top_k(batch.row(t), 2)[slot]);
            if (batch.is_valid(t) && location[e]++ < capacity) {
                kept[t][e] = reference::softmax(batch.row(t))[e];
            }
        }
    }
    for (Vector& row : kept) {
        const double sum = std::accumulate(row.begin(), row.end(), 0.0);
        for (double& weight : row) {
            weight /= std::max(sum, 1.1920928955078125e-7);
        }
    }
    return kept;
}

/// DeepSpeed: each expert keeps the tokens with the greatest probability among those that chose it.
Matrix deepspeed_weights(const Batch& batch, std::size_t k, std::size_t capacity, bool normalize) {
    Matrix chosen = zeros(batch.n_tokens(), batch.n_experts);
    for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
        for (const moe::ExpertId e : reference::top_k(batch.row(t), k)) {
            chosen[t][static_cast<std::size_t>(e)] = reference::softmax(batch.row(t))[static_cast<std::size_t>(e)];
        }
    }
    Matrix kept = zeros(batch.n_tokens(), batch.n_experts);
    for (std::size_t e = 0; e < batch.n_experts; ++e) {
        Vector column;
        for (const Vector& row : chosen) {
            column.push_back(row[e]);
        }
        for (const moe::ExpertId t : reference::top_k(column, std::min(capacity, column.size()))) {
            kept[static_cast<std::size_t>(t)][e] = column[static_cast<std::size_t>(t)];
        }
    }
    for (Vector& row : kept) {
        const double sum = std::accumulate(row.begin(), row.end(), 0.0);
        for (double& weight : row) {
            weight /= normalize && sum > 0 ? sum : 1;
        }
    }
    return kept;
}

double ratio(const Batch& batch) {
    return static_cast<double>(batch.n_tokens()) / static_cast<double>(batch.n_experts);
}

}  // namespace

TEST_CASE("switch_gate drops by position, as its two codes do", "[capacity_presets]") {
    moe_test::Dice dice{1};
    for (int i = 0; i < 100; ++i) {
        const Batch batch = random_batch(dice);
        const auto capacity = std::max<std::size_t>(4, static_cast<std::size_t>(1.25 * ratio(batch)));
        REQUIRE(same(weights_of(moe::switch_gate(), batch), switch_weights(batch, capacity, 0)));
        REQUIRE(same(weights_of(moe::switch_gate_fixed(2, 7), batch), switch_weights(batch, 2, 7)));
        REQUIRE(same(weights_of(moe::switch_gate_fixed(), batch), switch_weights(batch, 64, 0)));
    }
}

TEST_CASE("nllb_gate queues second choices behind all first ones", "[capacity_presets]") {
    moe_test::Dice dice{2};
    for (int i = 0; i < 100; ++i) {
        Batch batch = random_batch(dice);
        for (std::size_t t = 0; t < batch.n_tokens() && i % 2 == 0; ++t) {
            batch.valid.push_back(dice.one_in(4) ? 0 : 1);
        }
        const double capacity = 2 * std::ceil(ratio(batch));
        const auto all = moe::SecondExpert::all;
        REQUIRE(same(weights_of(moe::nllb_gate(), batch), nllb_weights(batch, capacity, false)));
        REQUIRE(same(weights_of(moe::nllb_gate(all, moe::CapacityOrder::token_priority), batch),
                     nllb_weights(batch, capacity, true)));
        const double fraction = std::ceil(0.3 * static_cast<double>(batch.n_tokens()));
        REQUIRE(same(weights_of(moe::nllb_evaluation_gate(0.3), batch), nllb_weights(batch, fraction, false)));
    }
}

TEST_CASE("deepspeed_gate and megatron_gate keep the greatest weights", "[capacity_presets]") {
    moe_test::Dice dice{3};
    for (int i = 0; i < 100; ++i) {
        const Batch batch = random_batch(dice);
        const auto capacity = static_cast<std::size_t>(std::ceil(ratio(batch) * 1.1 * 2));
        REQUIRE(same(weights_of(moe::deepspeed_gate(2, 1.1, 3), batch),
                     deepspeed_weights(batch, 2, std::max<std::size_t>(capacity, 3), true)));
        const auto one = static_cast<std::size_t>(std::ceil(ratio(batch) * 0.75));
        REQUIRE(same(weights_of(moe::megatron_gate(1, 0.75), batch), deepspeed_weights(batch, 1, one, false)));
    }
    CHECK(moe::megatron_gate(2).gate.normalize.kind == moe::Normalize::Kind::sum);
    CHECK(moe::megatron_gate(2, 1, moe::CapacityOrder::position).order == moe::CapacityOrder::position);
}

TEST_CASE("batch_priority_gate serves the surest tokens first", "[capacity_presets]") {
    // All want expert 0 first; 3 tokens, 2 experts, k 1, factor 1.05: 2 places.
    const Batch batch{{1, 0, 3, 0, 2, 0}, 2};
    const Matrix weights = weights_of(moe::batch_priority_gate(1), batch);
    CHECK(weights[0][0] == 0);
    CHECK(weights[1][0] == Approx(1 / (1 + std::exp(-3))).epsilon(1e-14));
    CHECK(weights[2][0] == Approx(1 / (1 + std::exp(-2))).epsilon(1e-14));
}

TEST_CASE("gshard_gate and st_moe_gate give places to what their draws left", "[capacity_presets]") {
    moe_test::Dice dice{4};
    for (std::uint64_t i = 0; i < 100; ++i) {
        const Batch batch = random_batch(dice);
        const auto check = [&](const auto& gate, double places) {
            Vector used(batch.n_experts, 0);
            const auto limited = choose_batch<double>(gate, batch.logits, batch.n_tokens(), batch.n_experts);
            std::size_t missing = 0;
            for (std::size_t slot = 0; slot < 2; ++slot) {
                for (std::size_t t = 0; t < batch.n_tokens(); ++t) {
                    const auto drawn =
                        moe_test::choose<double>(gate.gate, batch.row(t), batch.n_experts, {.position = t});
                    if (slot < drawn.experts.size()) {
                        const moe::ExpertId e = drawn.experts[slot];
                        const bool fits = used[static_cast<std::size_t>(e)]++ < places;
                        missing += limited.experts[2 * t + slot] == (fits ? e : moe::dropped(e)) ? 0U : 1U;
                        missing += limited.weights[2 * t + slot] == drawn.weights[slot] ? 0U : 1U;
                    } else {
                        missing += limited.experts[2 * t + slot] == moe::no_expert ? 0U : 1U;
                    }
                }
            }
            return missing == 0;
        };
        REQUIRE(check(moe::gshard_gate(0.5, 0, i, 3), std::ceil(ratio(batch))));
        REQUIRE(check(moe::st_moe_gate(1.25, 0, 2, i), std::max(4.0, std::floor(1.25 * ratio(batch)))));
    }
    CHECK(moe::gshard_gate().gate.second == moe::SecondExpert::random_of_two);
    CHECK(moe::st_moe_gate().limit.value == 2);
}

TEST_CASE("presets stand in a list of gates", "[capacity_presets]") {
    const std::vector<moe::AnyGate> gates{
        moe::switch_gate(),    moe::switch_gate_fixed(),    moe::gshard_gate(),
        moe::nllb_gate(),      moe::nllb_evaluation_gate(), moe::st_moe_gate(),
        moe::megatron_gate(2), moe::deepspeed_gate(2),      moe::batch_priority_gate()};
    for (const moe::AnyGate& gate : gates) {
        CHECK(gate.is_batch_gate());
        CHECK_NOTHROW(gate.validate(8));
        CHECK(choose_batch<float>(gate, {}, 0, 8).experts.empty());
    }
}

}  // namespace moe_test::capacity_presets_test
