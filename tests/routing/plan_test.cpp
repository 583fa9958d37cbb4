#include "moe/routing/plan.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::plan_test {

using moe::ExpertId;
using moe::Index;
using moe::no_expert;
using moe::PlanView;
using moe::RoutingPlan;

namespace {

/// One row of experts a token, some unset, some twice.
struct Choice {
    std::size_t n_tokens;
    std::size_t k;
    std::size_t n_experts;
    std::vector<ExpertId> experts;
    std::vector<float> weights;

    Choice(moe_test::Draw& draw, std::size_t tokens, std::size_t slots, std::size_t n)
        : n_tokens(tokens), k(slots), n_experts(n), weights(moe_test::random_elements<float>(draw, tokens * slots, 1)) {
        for (std::size_t i = 0; i < tokens * slots; ++i) {
            experts.push_back(static_cast<ExpertId>(draw.size(0, n)) - 1);
        }
    }

    [[nodiscard]] moe::MatrixView<const ExpertId> ids() const { return moe::view(experts.data(), n_tokens, k); }
    [[nodiscard]] moe::MatrixView<const float> weight_view() const { return moe::view(weights.data(), n_tokens, k); }
};

/// What a plan must say, found by looking at the whole choice again for every token and every expert.
void check_says(const PlanView<float>& plan, const Choice& choice) {
    REQUIRE_NOTHROW(moe::check_plan(plan));
    REQUIRE(plan.n_tokens == choice.n_tokens);
    REQUIRE(plan.n_experts == choice.n_experts);
    for (std::size_t t = 0; t < choice.n_tokens; ++t) {
        std::vector<ExpertId> experts;
        std::vector<float> weights;
        for (std::size_t slot = 0; slot < choice.k; ++slot) {
            if (choice.ids()(t, slot) != no_expert) {
                experts.push_back(choice.ids()(t, slot));
                weights.push_back(choice.weight_view()(t, slot));
            }
        }
        const auto got_experts = plan.experts_of(t);
        const auto got_weights = plan.weights_of(t);
        REQUIRE(std::equal(got_experts.begin(), got_experts.end(), experts.begin(), experts.end()));
        REQUIRE(std::equal(got_weights.begin(), got_weights.end(), weights.begin(), weights.end()));
    }
    for (std::size_t e = 0; e < choice.n_experts; ++e) {
        std::vector<Index> tokens;
        for (std::size_t i = 0; i < choice.experts.size(); ++i) {
            if (choice.experts[i] == static_cast<ExpertId>(e)) {
                tokens.push_back(static_cast<Index>(i / choice.k));
            }
        }
        const auto got = plan.tokens_of(e);
        REQUIRE(std::equal(got.begin(), got.end(), tokens.begin(), tokens.end()));
    }
}

}  // namespace

TEST_CASE("a plan lists what was chosen by token and by expert", "[plan]") {
    RoutingPlan<float> plan;  // one for all: it must forget what it held
    for (std::uint64_t seed = 0; seed < 3000; ++seed) {
        moe_test::Draw draw(seed);
        const Choice choice(draw, draw.size(0, 30), draw.size(1, 6), draw.size(1, 70));
        plan.assign(choice.ids(), choice.weight_view(), choice.n_experts);
        check_says(plan, choice);
        RoutingPlan<float> copy;
        copy.assign(plan);
        check_says(copy, choice);
    }
}

TEST_CASE("plans of nothing: no tokens, no slots, nothing chosen, one expert", "[plan]") {
    moe_test::Draw draw(1);
    RoutingPlan<float> plan;
    CHECK(plan.view().n_tokens == 0);
    CHECK(plan.view().n_experts == 0);
    CHECK_NOTHROW(moe::check_plan(plan.view()));
    Choice none(draw, 5, 2, 4);
    std::fill(none.experts.begin(), none.experts.end(), no_expert);
    for (const Choice& choice : {Choice(draw, 0, 3, 4), Choice(draw, 7, 0, 4), Choice(draw, 40, 2, 1), none}) {
        plan.assign(choice.ids(), choice.weight_view(), choice.n_experts);
        check_says(plan, choice);
    }
}

TEST_CASE("all tokens on one expert of many", "[plan]") {
    moe_test::Draw draw(2);
    Choice choice(draw, 300, 1, 1000);
    std::fill(choice.experts.begin(), choice.experts.end(), 999);
    RoutingPlan<float> plan;
    plan.assign(choice.ids(), choice.weight_view(), choice.n_experts);
    check_says(plan, choice);
}

TEST_CASE("rows of ids and weights may have strides", "[plan]") {
    const std::vector<ExpertId> ids{1, 0, 99, 2, -1, 99};
    const std::vector<float> weights{0.1F, 0.2F, 0.3F, 0.4F};
    RoutingPlan<float> plan;
    plan.assign(moe::view(ids.data(), 2, 2, 3), moe::view(weights.data(), 2, 2), 3);
    const PlanView<float> view = plan;
    CHECK(std::vector<ExpertId>(view.experts.begin(), view.experts.end()) == std::vector<ExpertId>{1, 0, 2});
    CHECK(std::vector<float>(view.weights.begin(), view.weights.end()) == std::vector<float>{0.1F, 0.2F, 0.3F});
}

TEST_CASE("more experts than 16 bits count", "[plan]") {
    constexpr std::size_t n_experts = 70001;
    const std::vector<ExpertId> ids{70000, 0, 65536, 70000};
    const std::vector<float> weights(4, 1.0F);
    RoutingPlan<float> plan;
    plan.assign(moe::view(ids.data(), 2, 2), moe::view(weights.data(), 2, 2), n_experts);
    CHECK_NOTHROW(moe::check_plan(plan.view()));
    CHECK(plan.view().tokens_of(70000).size() == 2);
    CHECK(plan.view().tokens_of(65536).front() == 1);
}

TEST_CASE("a plan that was moved from is an empty plan or an error, never a lie", "[plan]") {
    moe_test::Draw draw(3);
    const Choice choice(draw, 9, 2, 4);
    RoutingPlan<float> plan;
    plan.assign(choice.ids(), choice.weight_view(), choice.n_experts);
    const RoutingPlan<float> other = std::move(plan);
    check_says(other, choice);
    CHECK(plan.view().n_tokens == 0);  // NOLINT: what it holds now is what is tested
    plan.assign(choice.ids(), choice.weight_view(), choice.n_experts);
    check_says(plan, choice);
}

}  // namespace moe_test::plan_test
