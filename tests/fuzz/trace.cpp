#include <moe/stats/trace.hpp>

#include <cstdint>
#include <vector>

#include "fuzz/support.hpp"

namespace {

using moe::PlanView;
using moe::RoutingPlan;
using namespace moe_test::fuzz;

/// The plans that `input` begins with.
template <class T>
std::vector<RoutingPlan<T>> plans_of(Input input) {
    std::vector<RoutingPlan<T>> plans;
    (void)accepted([&] {
        moe::TraceReader<T> reader(input);
        // A plan of eight bytes has offsets of all experts, up to a million: not too many of those. Ids have four bytes
        // from 65,537 on.
        constexpr std::size_t most = std::size_t{1} << 17U;
        for (std::size_t n = reader.n_experts(); n <= most; n += reader.n_experts()) {
            RoutingPlan<T> plan;
            if (!reader.next(plan)) {
                break;
            }
            plans.push_back(std::move(plan));
        }
    });
    return plans;
}

template <class T>
bool same(const RoutingPlan<T>& plan, const RoutingPlan<T>& other) {
    const PlanView<T> a = plan.view();
    const PlanView<T> b = other.view();
    return a.n_experts == b.n_experts && same_bits(a.token_offsets, b.token_offsets) &&
           same_bits(a.experts, b.experts) && same_bits(a.weights, b.weights) &&
           same_bits(a.expert_offsets, b.expert_offsets) && same_bits(a.tokens, b.tokens) &&
           same_bits(a.assignments, b.assignments);
}

template <class T>
void check_trace(Input input) {
    const std::vector<RoutingPlan<T>> plans = plans_of<T>(input);
    if (plans.empty()) {
        return;
    }
    taken = true;
    moe::TraceWriter<T> writer(moe::read_trace_header(input).n_experts);
    for (const RoutingPlan<T>& plan : plans) {
        moe::check_plan(plan.view());
        writer.append(plan);
    }
    confirm(writer.bytes().size() <= input.size(), "a trace is written no longer than it was read");
    const std::vector<RoutingPlan<T>> again = plans_of<T>(writer.bytes());
    confirm(std::ranges::equal(again, plans, same<T>), "plans written are read as they were");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Input input = input_of(data, size);
    check_trace<float>(input);
    check_trace<double>(input);
    return 0;
}
