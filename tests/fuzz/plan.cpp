#include <moe/routing/plan.hpp>

#include <cstdint>
#include <vector>

#include "fuzz/support.hpp"

// An input is the number of experts (two bytes), the slots of a token (one), which way to read the rest (one), and
// either ids, four bytes each, for a plan to be made of, or the arrays of a plan that somebody else made.

namespace {

using moe::ExpertId;
using moe::Index;
using moe::PlanView;
using moe::RoutingPlan;
using namespace moe_test::fuzz;

/// The numbers that follow, `limit` of them at most.
template <class Number>
std::vector<Number> numbers(Input& input, std::size_t limit) {
    std::vector<Number> result;
    while (!input.empty() && result.size() < limit) {
        result.push_back(take<Number>(input));
    }
    return result;
}

/// Each token has what its row names, each expert the tokens that name it.
void check_made(const PlanView<float>& plan, moe::MatrixView<const ExpertId> ids,
                moe::MatrixView<const float> weights) {
    moe::check_plan(plan);
    confirm(plan.n_tokens == ids.rows(), "a plan has the tokens it was given");
    for (std::size_t t = 0; t < ids.rows(); ++t) {
        std::size_t slot = 0;
        for (std::size_t c = 0; c < ids.cols(); ++c) {
            if (ids(t, c) < 0) {
                continue;
            }
            confirm(slot < plan.experts_of(t).size() && plan.experts_of(t)[slot] == ids(t, c) &&
                        plan.weights_of(t)[slot] == weights(t, c),
                    "a token has the experts and weights of its row");
            ++slot;
        }
        confirm(slot == plan.experts_of(t).size(), "a token has no other experts");
    }
}

void make(Input input, std::size_t n_experts, std::size_t slots) {
    const std::vector<ExpertId> all = numbers<ExpertId>(input, input.size());
    const std::size_t n_tokens = slots == 0 ? 0 : all.size() / slots;
    std::vector<float> values(all.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(i);
    }
    const auto ids = moe::view(all.data(), n_tokens, slots);
    const auto weights = moe::view(static_cast<const float*>(values.data()), n_tokens, slots);
    const std::vector<ExpertId> old{0, 1};
    const std::vector<float> old_weights{0.25F, 0.75F};
    const auto old_ids = moe::view(old.data(), 1, 2);
    const auto old_view = moe::view(old_weights.data(), 1, 2);
    RoutingPlan<float> plan;
    plan.assign(old_ids, old_view, 2);
    if (accepted([&] { plan.assign(ids, weights, n_experts); })) {
        taken = true;
        check_made(plan, ids, weights);
    } else {
        check_made(plan, old_ids, old_view);
    }
}

void copy(Input input, std::size_t n_experts, std::size_t n_tokens) {
    const std::size_t n = take<std::uint8_t>(input);
    const auto token_offsets = numbers<Index>(input, n_tokens + 1);
    const auto experts = numbers<ExpertId>(input, n);
    const std::vector<float> weights(experts.size(), 0.5F);
    const auto expert_offsets = numbers<Index>(input, n_experts + 1);
    const auto tokens = numbers<Index>(input, n);
    const auto assignments = numbers<Index>(input, n);
    const PlanView<float> foreign{n_tokens, n_experts,      token_offsets, experts,
                                  weights,  expert_offsets, tokens,        assignments};
    RoutingPlan<float> plan;
    if (!accepted([&] { plan.assign(foreign); })) {
        confirm(plan.view().n_tokens == 0 && plan.view().n_assignments() == 0, "a plan refused leaves none behind");
        return;
    }
    taken = true;
    // a plan that keeps its invariants is the one that its choices make; a token may have any number of them
    std::size_t widest = 0;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        widest = (std::max)(widest, foreign.experts_of(t).size());
    }
    std::vector<ExpertId> ids(n_tokens * widest, moe::no_expert);
    const std::vector<float> ones(ids.size(), 0.5F);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        std::ranges::copy(foreign.experts_of(t), ids.begin() + static_cast<std::ptrdiff_t>(t * widest));
    }
    RoutingPlan<float> made;
    made.assign(moe::view(static_cast<const ExpertId*>(ids.data()), n_tokens, widest),
                moe::view(ones.data(), n_tokens, widest), n_experts);
    const PlanView<float> a = plan.view();
    const PlanView<float> b = made.view();
    confirm(same_bits(a.expert_offsets, b.expert_offsets) && same_bits(a.tokens, b.tokens) &&
                same_bits(a.assignments, b.assignments),
            "the order by expert follows from the order by token");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input = input_of(data, size);
    const std::size_t n_experts = take<std::uint16_t>(input);
    const std::size_t width = take<std::uint8_t>(input);
    if (take<std::uint8_t>(input) % 2 == 0) {
        make(input, n_experts, width);
    } else {
        copy(input, n_experts, width);
    }
    return 0;
}
