#pragma once

#include "layer/reference/runner.hpp"
#include "moe/layer/pack.hpp"
#include "support/kept.hpp"

/// Layers packed in other formats than their own against the definition over the weights those formats keep.
namespace moe_test {

/// The weights of `expert` as format F keeps them.
template <class F>
void keep_as(reference::Expert& expert) {
    const auto keep = [](reference::Vector& weights, std::size_t inputs) {
        std::vector<float> values;
        for (const double weight : weights) {
            values.push_back(static_cast<float>(weight));
        }
        values = as_kept<F>(std::move(values), inputs);
        weights.assign(values.begin(), values.end());
    };
    keep(expert.gate, expert.d_model);
    keep(expert.up, expert.d_model);
    keep(expert.down, expert.d_ff);
}

/// The error a compute promises, and whether it has one for sure.
struct Promise {
    double most;
    bool rounds;

    explicit Promise(moe::Compute compute)
        : most(compute == moe::Compute::int8   ? 2e-4
               : compute == moe::Compute::bf16 ? 2e-5
                                               : 1e-12),
          rounds(compute == moe::Compute::int8 || compute == moe::Compute::bf16) {}
};

/// One layer, several calls with several gates and one foreign plan.
template <class F>
void check_packed_layer(std::uint64_t seed, moe::Compute compute, Tally& tally) {
    Draw draw(seed);
    const Sizes sizes = random_sizes<float>(draw);
    const std::size_t d = sizes.shape.d_model;
    const ReferenceCase<float> layer_case(draw, sizes.shape, draw.size(0, 2) == 0 ? draw.size(1, 70) : d);
    reference::Layer definition = layer_case.definition();
    std::for_each(definition.experts.begin(), definition.experts.end(), keep_as<F>);
    std::for_each(definition.shared.begin(), definition.shared.end(), keep_as<F>);
    const std::size_t n_choices = sizes.shape.n_choices();
    for (std::size_t i = 0; i < 3; ++i) {
        GateMemory memory;
        const GateCase gate = random_gate(draw, n_choices, memory);
        const std::size_t n_tokens = sizes.token_counts[draw.size(0, sizes.token_counts.size() - 1)];
        const Call<float> call(draw, n_tokens, d, layer_case.router_inputs());
        const auto layer = moe::pack<F>(
            moe::MoELayer{layer_case.router(gate.gate), layer_case.bank(), layer_case.shared(), layer_case.options()},
            ReversedExecutor(2), compute);
        moe::RoutingPlan<float> plan;
        std::vector<reference::Choice> choices;
        const bool foreign = i == 2;
        if (foreign) {
            choices = foreign_plan(draw, n_tokens, n_choices, plan);
        }
        const Outcome<float> outcome = foreign ? forward_with(layer, call, plan.view()) : forward(layer, call);
        ReferenceCheck<float> check(definition, call, outcome, tally,
                                    Promise(compute).rounds ? OutputIs::counted : OutputIs::bounded);
        tally.add(foreign ? check.run(choices) : check.run(gate),
                  "seed " + std::to_string(seed) + ", call " + std::to_string(i));
    }
}

template <class F>
void check_packed_layers(std::uint64_t first_seed, std::size_t n_layers, moe::Compute compute) {
    Tally tally;
    for (std::size_t i = 0; i < n_layers; ++i) {
        check_packed_layer<F>(first_seed + i, compute, tally);
    }
    INFO(tally.first_failure);
    CHECK(tally.failures == 0);
    CHECK(tally.cases == 3 * n_layers);
    CHECK(tally.whole * 3 > tally.cases);
    const Promise promise(compute);
    CHECK(tally.error <= promise.most * tally.power);
    CHECK(tally.whole_error <= promise.most * tally.whole_power);
    if (promise.rounds) {  // the activations were rounded, or this has tested something else
        CHECK(tally.error >= 1e-6 * tally.power);
    }
}

}  // namespace moe_test
