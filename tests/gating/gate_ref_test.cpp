#include "moe/gating/gate_ref.hpp"

#include <algorithm>
#include <vector>

#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/strategies/expert_choice.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/gate_cases.hpp"

namespace moe_test::gate_ref_test {

namespace {

constexpr std::size_t n_experts = 6;

/// What a token gate chooses of some logits, in float or double.
template <class T, class Select>
std::vector<double> choice(Draw& draw, std::size_t most, Select&& select) {
    const std::vector<T> logits = random_elements<T>(draw, n_experts, 3);
    std::vector<moe::ExpertId> experts(most);
    std::vector<T> weights(most);
    std::vector<T> scratch(moe::selection_parts * n_experts);
    std::vector<moe::ExpertId> order(n_experts);
    const std::size_t n = select(std::span<const T>(logits), moe::BasicSelection<T>{experts, weights, scratch, order});
    std::vector<double> result;
    for (std::size_t i = 0; i < n; ++i) {
        result.push_back(static_cast<double>(experts[i]));
        result.push_back(static_cast<double>(weights[i]));
    }
    return result;
}

template <class T>
void check_token_gates() {
    Draw draw(3);
    const GateCases cases(draw, n_experts);
    for (const moe::AnyGate& gate : cases.gates()) {
        const moe::GateRef<T> ref(gate);
        CHECK(!ref.is_batch_gate());
        const std::size_t most = moe::gate_max_per_token(gate, 4, n_experts);
        REQUIRE(ref.max_per_token(4, n_experts) == most);
        CHECK(ref.max_assignments(4, n_experts) == moe::gate_max_assignments(gate, 4, n_experts));
        const moe::TokenContext context{2, 7};
        Draw one(4);
        Draw other(4);
        CHECK(choice<T>(one, most, [&](auto logits, auto out) { return ref.select_token(logits, context, out); }) ==
              choice<T>(other, most,
                        [&](auto logits, auto out) { return moe::select_token<T>(gate, logits, context, out); }));
    }
}

}  // namespace

TEST_CASE("a gate by reference chooses as the gate, token by token", "[gate_ref]") {
    check_token_gates<float>();
    check_token_gates<double>();
}

TEST_CASE("a gate by reference chooses as the gate, for whole batches", "[gate_ref]") {
    const moe::ExpertChoice<moe::Softmax> gate{.capacity_factor = 1};
    const moe::GateRef<float> ref(gate);
    CHECK(ref.is_batch_gate());
    constexpr std::size_t n_tokens = 5;
    const std::size_t most = ref.max_per_token(n_tokens, n_experts);
    CHECK(ref.max_assignments(n_tokens, n_experts) == moe::gate_max_assignments(gate, n_tokens, n_experts));
    Draw draw(5);
    const std::vector<float> logits = random_elements<float>(draw, n_tokens * n_experts, 2);
    const auto run = [&](auto&& select) {
        std::vector<moe::ExpertId> experts(n_tokens * most, moe::no_expert);
        std::vector<float> weights(n_tokens * most);
        std::vector<float> scratch(moe::batch_scratch_size(n_tokens, n_experts));
        std::vector<moe::ExpertId> order(moe::batch_order_size(n_tokens, n_experts, most));
        select(moe::view(logits.data(), n_tokens, n_experts),
               moe::BatchSelection<float>{n_experts,
                                          moe::view(experts.data(), n_tokens, most),
                                          moe::view(weights.data(), n_tokens, most),
                                          scratch,
                                          order,
                                          {},
                                          {},
                                          0,
                                          {}});
        return experts;
    };
    const auto expected = run([&](auto view, auto out) { moe::select_batch<float>(gate, view, out); });
    CHECK(run([&](auto view, auto out) { ref.select_batch(view, out); }) == expected);
    CHECK(std::ranges::count_if(expected, [](moe::ExpertId e) { return e >= 0; }) > 0);
}

}  // namespace moe_test::gate_ref_test
