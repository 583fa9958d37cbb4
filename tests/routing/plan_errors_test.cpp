#include <array>
#include <cstddef>
#include <limits>
#include <vector>

#include "moe/routing/plan.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/unaligned.hpp"

namespace moe_test::plan_errors_test {

using moe::ErrorCode;
using moe::ExpertId;
using moe::Index;
using moe::RoutingPlan;
using moe_test::contains;
using moe_test::error_of;

namespace {

/// A plan of 3 tokens and 3 experts whose every array a test may spoil. Token 0 has experts 2 and 0, token 1 none,
/// token 2 has 0 and 2.
struct Parts {
    std::size_t n_tokens = 3;
    std::size_t n_experts = 3;
    std::vector<Index> token_offsets{0, 2, 2, 4};
    std::vector<ExpertId> experts{2, 0, 0, 2};
    std::vector<double> weights{0.1, 0.2, 0.3, 0.4};
    std::vector<Index> expert_offsets{0, 2, 2, 4};
    std::vector<Index> tokens{0, 2, 0, 2};
    std::vector<Index> assignments{1, 2, 0, 3};

    [[nodiscard]] moe::PlanView<double> view() const {
        return {n_tokens, n_experts, token_offsets, experts, weights, expert_offsets, tokens, assignments};
    }
};

template <class Spoil>
void check_found(const char* text, Spoil&& spoil) {
    Parts parts;
    REQUIRE_NOTHROW(moe::check_plan(parts.view()));
    spoil(parts);
    const auto error = error_of([&] { moe::check_plan(parts.view()); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains(text));
    RoutingPlan<double> plan;
    CHECK(error_of([&] { plan.assign(parts.view()); }).text == error.text);
    CHECK(plan.view().n_tokens == 0);
}

}  // namespace

TEST_CASE("check_plan finds sizes that disagree", "[plan]") {
    check_found("sizes disagree at 4", [](Parts& p) { p.weights.pop_back(); });
    check_found("sizes disagree at 4", [](Parts& p) { p.tokens.push_back(0); });
    check_found("sizes disagree at 4", [](Parts& p) { p.assignments.pop_back(); });
    check_found("sizes disagree at 3", [](Parts& p) { p.experts.pop_back(); });
    check_found("token_offsets has a wrong size at 3", [](Parts& p) { p.token_offsets.pop_back(); });
    check_found("token_offsets has a wrong size at 0", [](Parts& p) { p.token_offsets.clear(); });
    check_found("token_offsets has a wrong size at 4", [](Parts& p) { p.n_tokens = 4; });
    check_found("expert_offsets has a wrong size at 5", [](Parts& p) { p.expert_offsets.push_back(4); });
    check_found("expert_offsets has a wrong size at 4", [](Parts& p) { p.n_experts = 2; });
}

TEST_CASE("check_plan is not taken in by counts whose successor wraps to 0", "[plan]") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    moe::PlanView<float> plan;
    plan.n_tokens = most;
    plan.n_experts = most;
    auto error = error_of([&] { moe::check_plan(plan); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("token_offsets has a wrong size at 0"));
    check_found("token_offsets has a wrong size at 0", [](Parts& p) { p.n_tokens = most, p.token_offsets.clear(); });
    check_found("expert_offsets has a wrong size at 0", [](Parts& p) { p.n_experts = most, p.expert_offsets.clear(); });
    // a view of that many empty rows is one; a plan of them is not
    const auto ids = moe::view(static_cast<const ExpertId*>(nullptr), most, 0);
    const auto weights = moe::view(static_cast<const float*>(nullptr), most, 0);
    RoutingPlan<float> made;
    error = error_of([&] { made.assign(ids, weights, 3); });
    CHECK(error.code == ErrorCode::overflow);
    CHECK_THAT(error.text, contains("18446744073709551615 tokens do not fit the index type"));
}

TEST_CASE("arrays of a plan must be aligned to their type", "[plan]") {
    const Parts parts;
    const moe_test::Unaligned<Index> index(parts.tokens);
    const moe_test::Unaligned<double> real(parts.weights);
    const moe_test::Unaligned<ExpertId> id(parts.experts);
    const auto refused = [&](auto change, const char* text) {
        moe::PlanView<double> plan = parts.view();
        change(plan);
        const auto error = error_of([&] { moe::check_plan(plan); });
        CHECK(error.code == ErrorCode::alignment);
        CHECK_THAT(error.text, contains(text));
    };
    using View = moe::PlanView<double>;
    refused([&](View& p) { p.token_offsets = {index.data(), 4}; }, "token_offsets must be aligned to the 4 bytes");
    refused([&](View& p) { p.experts = {id.data(), 4}; }, "experts must be aligned to the 4 bytes");
    refused([&](View& p) { p.weights = {real.data(), 4}; }, "weights must be aligned to the 8 bytes");
    refused([&](View& p) { p.expert_offsets = {index.data(), 4}; }, "expert_offsets must be aligned to the 4 bytes");
    refused([&](View& p) { p.tokens = {index.data(), 4}; }, "tokens must be aligned to the 4 bytes");
    refused([&](View& p) { p.assignments = {index.data(), 4}; }, "assignments must be aligned to the 4 bytes");
    RoutingPlan<double> made;
    auto error = error_of([&] { made.assign(moe::view(id.data(), 2, 2), moe::view(real.data(), 2, 2), 3); });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("the expert ids must be aligned to the 4 bytes"));
    error = error_of([&] { made.assign(moe::view(parts.experts.data(), 2, 2), moe::view(real.data(), 2, 2), 3); });
    CHECK_THAT(error.text, contains("the weights must be aligned to the 8 bytes"));
}

TEST_CASE("check_plan finds offsets that do not cover the assignments in order", "[plan]") {
    check_found("token_offsets do not span", [](Parts& p) { p.token_offsets.front() = 1; });
    check_found("token_offsets do not span", [](Parts& p) { p.token_offsets.back() = 3; });
    check_found("expert_offsets do not span", [](Parts& p) { p.expert_offsets.front() = 1; });
    check_found("expert_offsets do not span", [](Parts& p) { p.expert_offsets.back() = 5; });
    check_found("token_offsets descend at 1", [](Parts& p) { p.token_offsets = {0, 3, 2, 4}; });
    check_found("expert_offsets descend at 1", [](Parts& p) { p.expert_offsets = {0, 3, 2, 4}; });
    // before it is found to descend, it must not be believed
    check_found("expert_offsets descend at 1", [](Parts& p) { p.expert_offsets = {0, 4000000000U, 2, 4}; });
    check_found("token_offsets descend at 1", [](Parts& p) { p.token_offsets = {0, 4000000000U, 2, 4}; });
}

TEST_CASE("check_plan finds experts out of range", "[plan]") {
    check_found("expert is out of range at 1", [](Parts& p) { p.experts[1] = 3; });
    check_found("expert is out of range at 2", [](Parts& p) { p.experts[2] = -1; });
    check_found("expert is out of range at 0", [](Parts& p) { p.experts[0] = std::numeric_limits<ExpertId>::min(); });
}

TEST_CASE("check_plan finds entries that are not what the tokens chose", "[plan]") {
    check_found("belongs to another expert at 0", [](Parts& p) { p.experts[1] = 1; });
    check_found("belongs to another expert at 0", [](Parts& p) { p.assignments = {0, 2, 1, 3}; });
    check_found("belongs to another expert at 1", [](Parts& p) { p.assignments[1] = 4; });
    check_found("belongs to another expert at 3", [](Parts& p) { p.assignments[3] = 4000000000U; });
    check_found("belongs to another token at 1", [](Parts& p) { p.tokens[1] = 1; });
    check_found("belongs to another token at 2", [](Parts& p) { p.tokens[2] = 3; });
    check_found("belongs to another token at 1", [](Parts& p) { p.token_offsets = {0, 2, 3, 4}; });
    check_found("out of order at 1", [](Parts& p) { p.assignments[1] = 1, p.tokens[1] = 0; });
    check_found("out of order at 1", [](Parts& p) {
        p.assignments = {2, 1, 0, 3};
        p.tokens = {2, 0, 0, 2};
    });
}

TEST_CASE("a choice from outside that cannot be names token, slot and expert; the plan stays as it was", "[plan]") {
    const std::vector<ExpertId> good{0, 2, 1, -1, 1, 0};
    const std::vector<float> weights{1, 2, 3, 4, 5, 6};
    RoutingPlan<float> plan;
    plan.assign(moe::view(good.data(), 3, 2), moe::view(weights.data(), 3, 2), 3);
    const auto unchanged = [&] {
        const moe::PlanView<float> view = plan;
        return view.n_tokens == 3 && view.n_experts == 3 && view.n_assignments() == 5 && view.weights[4] == 6;
    };
    for (const ExpertId bad : {3, -2, std::numeric_limits<ExpertId>::max(), std::numeric_limits<ExpertId>::min()}) {
        std::vector<ExpertId> ids = good;
        ids[3] = bad;
        const auto error =
            error_of([&] { plan.assign(moe::view(ids.data(), 3, 2), moe::view(weights.data(), 3, 2), 3); });
        CHECK(error.code == ErrorCode::range);
        CHECK_THAT(error.text,
                   contains("token 1, slot 1") && contains("expert " + std::to_string(bad)) && contains("are 3"));
        CHECK(unchanged());
    }
    auto error = error_of([&] { plan.assign(moe::view(good.data(), 3, 2), moe::view(weights.data(), 2, 3), 3); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("3 x 2") && contains("2 x 3"));
    CHECK(unchanged());
    error = error_of([&] { plan.assign(moe::view(good.data(), 2, 2), moe::view(weights.data(), 3, 2), 3); });
    CHECK_THAT(error.text, contains("2 x 2") && contains("3 x 2"));
    CHECK(unchanged());
}

TEST_CASE("more assignments than an index counts are an overflow", "[plan]") {
    moe::Arena arena;
    const std::size_t too_many = std::size_t{1} << 32U;
    const auto error = error_of([&] { (void)moe::PlanStorage<float>::take(arena, 1U << 16U, 8, too_many); });
    CHECK(error.code == ErrorCode::overflow);
    CHECK_THAT(error.text, contains("4294967296 assignments of 65536 tokens"));
    CHECK_NOTHROW(moe::PlanStorage<float>::take(arena, 8, 8, too_many - 1));
}

}  // namespace moe_test::plan_errors_test
