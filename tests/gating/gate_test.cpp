// The functions a router calls gates through: what they accept, narrow, bound and refuse.

#include <moe/gating/gate.hpp>

#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/archetype.hpp>
#include <moe/gating/diagnose.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/hash.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <utility>
#include <vector>

#include "gating/gate_support.hpp"
#include "support/catch.hpp"

namespace moe_test::gate_test {

using moe_test::choose;
using moe_test::message_of;

namespace {

/// Chooses experts 0..count - 1 with half their logits, and uses all memory it is promised.
struct FirstFew {
    int count = 2;
    int limit = 3;
    [[nodiscard]] int max_per_token() const { return limit; }
    int select(std::span<const float> logits, moe::Selection out) const {
        std::fill(out.scratch.begin(), out.scratch.end(), 1e9F);
        std::fill(out.order.begin(), out.order.end(), 77);
        REQUIRE(out.scratch.size() == moe::selection_parts * logits.size());
        for (std::size_t slot = 0; std::cmp_less(slot, std::min(count, limit)); ++slot) {
            out.experts[slot] = static_cast<moe::ExpertId>(slot);
            out.weights[slot] = logits[slot] / 2;
        }
        return count;
    }
};

struct ChoosesExpert {
    int expert;
    [[nodiscard]] std::size_t max_per_token() const { return 1; }
    long select(std::span<const float>, moe::Selection out) const {
        out.experts[0] = expert;
        return 1;
    }
};

/// Expert e takes tokens e and e + 1: a batch gate written for float.
struct Pairs {
    std::vector<moe::ExpertId> row{0, 1, moe::no_expert};
    [[nodiscard]] int max_per_token(int n_tokens, int n_experts) const {
        return n_tokens == 99 ? n_experts + 1 : std::min(3, n_experts);
    }
    [[nodiscard]] int max_assignments(int n_tokens, int /*n_experts*/) const { return 2 * n_tokens; }
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const {
        REQUIRE(out.scratch.size() == moe::batch_scratch_size(logits.rows(), logits.cols()));
        REQUIRE(out.order.size() == moe::batch_order_size(logits.rows(), out.n_experts, out.experts.cols()));
        std::fill(out.order.begin(), out.order.end(), 77);
        std::fill(out.scratch.begin(), out.scratch.end(), 1e9F);
        for (std::size_t t = 0; t < logits.rows(); ++t) {
            for (std::size_t slot = 0; slot < row.size(); ++slot) {
                out.experts(t, slot) = row[slot];
                out.weights(t, slot) = logits(t, slot) + 0.5F;
            }
        }
    }
};

/// Two logits an expert: takes the last expert, weighted with the last logit.
struct Halves {
    [[nodiscard]] int n_experts(int n_logits) const { return n_logits / 2; }
    [[nodiscard]] int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const {
        REQUIRE(out.order.size() == logits.size() / 2);
        REQUIRE(out.scratch.size() == moe::selection_parts * logits.size());
        out.experts[0] = static_cast<moe::ExpertId>(logits.size() / 2) - 1;
        out.weights[0] = logits.back();
        return 1;
    }
};

static_assert(moe::TokenGate<moe::GateArchetype> && moe::TokenGate<moe::GateArchetype, double>);
static_assert(moe::TokenGate<FirstFew> && moe::TokenGate<FirstFew, double> && !moe::BatchGate<FirstFew>);
static_assert(moe::BatchGate<Pairs> && moe::BatchGate<Pairs, double> && !moe::TokenGate<Pairs>);
static_assert(moe::TokenGate<moe::TokenChoice<moe::Sigmoid>, double> && moe::TokenGate<moe::Hash<>, double>);
static_assert(moe::TokenGate<moe::Dense<>> && moe::TokenGate<moe::SparseMixer, double>);
static_assert(!moe::TokenGate<moe::AnyGate> && !moe::BatchGate<moe::AnyGate> && moe::Gate<moe::AnyGate>);
static_assert(moe::check_gate<moe::GateArchetype>() && moe::check_gate<FirstFew, double>());
static_assert(moe::check_gate<Pairs>() && moe::check_gate<Pairs, double>() && moe::check_gate<moe::AnyGate>());
static_assert(moe::check_gate<moe::Hash<>>() && moe::check_gate<moe::TokenChoice<moe::RuntimeScore>, double>());

struct Batch {
    std::vector<double> logits, weights, scratch;
    std::vector<moe::ExpertId> experts, order;
};

Batch run_batch(const Pairs& gate, std::size_t n_tokens, std::size_t n_experts, std::vector<std::uint8_t> valid = {}) {
    const std::size_t max = moe::gate_max_per_token(gate, n_tokens, n_experts);
    Batch batch{std::vector<double>(n_tokens * n_experts), std::vector<double>(n_tokens * max),
                std::vector<double>(moe::batch_scratch_size(n_tokens, n_experts)),
                std::vector<moe::ExpertId>(n_tokens * max, -1),
                std::vector<moe::ExpertId>(moe::batch_order_size(n_tokens, n_experts, max))};
    for (std::size_t i = 0; i < batch.logits.size(); ++i) {
        batch.logits[i] = static_cast<double>(i);
    }
    moe::select_batch<double>(gate, moe::view(std::as_const(batch.logits).data(), n_tokens, n_experts),
                              {n_experts,
                               moe::view(batch.experts.data(), n_tokens, max),
                               moe::view(batch.weights.data(), n_tokens, max),
                               batch.scratch,
                               batch.order,
                               {},
                               valid,
                               0});
    return batch;
}

}  // namespace

TEST_CASE("a gate written for float serves a layer in double", "[gate]") {
    const std::vector<double> logits{1.0 / 3, -0.5, 8};
    const auto chosen = choose(FirstFew{}, logits);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{0, 1});
    CHECK(chosen.weights == std::vector<double>{static_cast<double>(static_cast<float>(1.0 / 3) / 2), -0.25});
    CHECK(choose(FirstFew{3, 3}, logits).weights.back() == 4);
    CHECK(choose(FirstFew{0, 3}, logits).experts.empty());
}

TEST_CASE("a batch gate written for float serves a layer in double", "[gate]") {
    const Batch batch = run_batch(Pairs{{0, 2, 1}}, 4, 5);
    for (std::size_t t = 0; t < 4; ++t) {
        for (std::size_t slot = 0; slot < 3; ++slot) {
            CHECK(batch.weights[3 * t + slot] == batch.logits[5 * t + slot] + 0.5);
        }
    }
}

TEST_CASE("what a gate returns is checked", "[gate][errors]") {
    const std::vector<float> logits{1, 2, 3, 4};
    CHECK(message_of([&] {
              (void)choose(FirstFew{4, 3}, logits);
          }) == "gate: select returned 4, but at most 3 experts a token (max_per_token) and at least 0 may be chosen");
    CHECK_THAT(message_of([&] { (void)choose(FirstFew{-1, 3}, logits); }), moe_test::contains("select returned -1"));
    CHECK(message_of([&] {
              (void)choose(FirstFew{1, 5}, logits);
          }) == "gate: max_per_token is 5, it must lie in 1..4, the number of experts");
    CHECK_THAT(message_of([&] { (void)choose(FirstFew{1, 0}, logits); }), moe_test::contains("max_per_token is 0"));
    CHECK_THAT(message_of([&] { (void)choose(FirstFew{1, -2}, logits); }), moe_test::contains("max_per_token is -2"));
    CHECK(choose(ChoosesExpert{3}, logits).experts.front() == 3);
    CHECK(message_of([&] { (void)choose(ChoosesExpert{4}, logits); }) ==
          "gate: select chose expert 4 in slot 0, the experts are 0..3");
    CHECK(message_of([&] { (void)choose(ChoosesExpert{-1}, logits); }) ==
          "gate: select chose expert -1 in slot 0, the experts are 0..3");
}

TEST_CASE("what a batch gate leaves is checked", "[gate][errors]") {
    CHECK(message_of([] {
              (void)run_batch(Pairs{{0, -1, 1}}, 2, 5);
          }) ==
          "gate: select left slot 1 of token 0 unused but chose expert 1 in slot 2; fill each row from the front");
    CHECK(message_of([] {
              (void)run_batch(Pairs{{0, 5, 1}}, 2, 5);
          }) == "gate: select chose expert 5 in slot 1, the experts are 0..4");
    CHECK(message_of([] { (void)run_batch(Pairs{}, 99, 5); }) ==
          "gate: max_per_token is 6, it must lie in 1..5, the number of experts");
}

TEST_CASE("a batch gate may drop; padding ends without experts", "[gate]") {
    const Batch batch = run_batch(Pairs{{0, moe::dropped(4), 1}}, 3, 5, {1, 0, 7});
    CHECK(batch.experts == std::vector<moe::ExpertId>{0, -6, 1, -1, -1, -1, 0, -6, 1});
    CHECK(moe::dropped(-6) == 4);
    CHECK(message_of([] {
              (void)run_batch(Pairs{{0, moe::dropped(5), 1}}, 2, 5);
          }) == "gate: select chose expert 5 in slot 1, the experts are 0..4");
}

TEST_CASE("a gate may read another number of logits than there are experts", "[gate]") {
    CHECK(moe::gate_n_experts(FirstFew{}, 7) == 7);
    CHECK(moe::gate_n_experts(Halves{}, 7) == 3);
    CHECK(moe::gate_n_experts(moe::AnyGate(Halves{}), 8) == 4);
    CHECK(message_of([] { (void)moe::gate_n_experts(Halves{}, 1); }) ==
          "gate: n_experts of 1 logits is 0, it must be at least 1");
    const std::vector<float> logits{1, 2, 3, 4};
    CHECK(choose<float>(moe::AnyGate(Halves{}), logits, 2).weights == std::vector<float>{4});
}

TEST_CASE("assignments are bounded by the gate where it says so", "[gate]") {
    CHECK(moe::gate_max_assignments(Pairs{}, 10, 8) == 20);
    CHECK(moe::gate_max_assignments(Pairs{}, 10, 1) == 10);
    CHECK(moe::gate_max_assignments(FirstFew{}, 10, 8) == 30);
    CHECK(moe::gate_max_assignments(moe::AnyGate(Pairs{}), 10, 8) == 20);
    const std::size_t many = std::size_t{std::numeric_limits<int>::max()} + 1;
    CHECK(message_of([&] { (void)moe::gate_max_per_token(Pairs{}, many, 8); }) ==
          "gate: 2147483648 tokens exceed 2147483647");
}

TEST_CASE("AnyGate holds gates of different kinds in one container", "[any_gate]") {
    std::vector<moe::AnyGate> gates{FirstFew{}, moe::TokenChoice<moe::Sigmoid>{.top_k = 2}, moe::SparseMixer{},
                                    moe::Dense<>{}, moe::GateArchetype{}};
    gates.insert(gates.begin(), Pairs{});
    const std::vector<moe::AnyGate> copies = gates;
    gates.clear();
    CHECK(moe::is_batch_gate(copies[0]));
    for (std::size_t i = 1; i < copies.size(); ++i) {
        CHECK_FALSE(moe::is_batch_gate(copies[i]));
        CHECK(moe::needs_logits(copies[i]));
    }
    const std::vector<double> wide{0.5, 2, 1, 1.5};
    const std::vector<float> logits(wide.begin(), wide.end());
    CHECK(choose(copies[1], logits) == choose(FirstFew{}, logits));
    CHECK(choose(copies[1], wide) == choose(FirstFew{}, wide));
    CHECK(choose(copies[2], logits) == choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 2}, logits));
    CHECK(choose(copies[3], wide) == choose(moe::SparseMixer{}, wide));
    CHECK(choose(copies[4], wide) == choose(moe::Dense<>{}, wide));
    CHECK(choose(copies[5], logits).experts == std::vector<moe::ExpertId>{1});
}

TEST_CASE("AnyGate passes errors on and names its own", "[any_gate][errors]") {
    CHECK(message_of([] { moe::validate_gate(moe::AnyGate(moe::TokenChoice<>{.top_k = 9}), 8); }) ==
          "TokenChoice: top_k 9 exceeds the 8 experts");
    moe::AnyGate gate = moe::GateArchetype{};
    moe::AnyGate other = std::move(gate);
    CHECK(message_of([&] { moe::validate_gate(gate, 8); }) == "AnyGate: it was moved from and holds no gate");
    gate = other;
    moe::validate_gate(gate, 8);
    gate = Pairs{};
    CHECK(moe::is_batch_gate(gate));
    CHECK_FALSE(moe::is_batch_gate(other));
    CHECK_THAT(message_of([&] { (void)choose<float>(gate, {1, 2}); }), moe_test::contains("batch gate"));
    CHECK_THAT(message_of([&] { moe::select_batch<float>(other, {}, {}); }), moe_test::contains("token gate"));
}

}  // namespace moe_test::gate_test
