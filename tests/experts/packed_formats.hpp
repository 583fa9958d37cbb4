#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "experts/bank_runner.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/kept.hpp"

/// Banks packed in a format other than their own give the bits of a bank over the weights that format keeps.
namespace moe_test {

/// The weights of a bank as floats, as format F keeps them; biases stay.
template <class F, class W>
BankWeights<float> kept_weights(const BankWeights<W>& w) {
    const auto floats = [](const std::vector<W>& values) {
        std::vector<float> result;
        for (const W& value : values) {
            result.push_back(moe::load_element(&value));
        }
        return result;
    };
    Draw nothing(0);
    BankWeights<float> kept(nothing, 1, 1, 1, w.gated, w.biases);
    kept.n_experts = w.n_experts;
    kept.d_model = w.d_model;
    kept.d_ff = w.d_ff;
    kept.gate = as_kept<F>(floats(w.gate), w.d_model);
    kept.up = as_kept<F>(floats(w.up), w.d_model);
    kept.down = as_kept<F>(floats(w.down), w.d_ff);
    kept.gate_bias = floats(w.gate_bias);
    kept.up_bias = floats(w.up_bias);
    kept.down_bias = floats(w.down_bias);
    return kept;
}

/// Exact products of every size around groups, panels and blocks.
template <class W, class F>
void check_format() {
    constexpr moe::FormKind kinds[] = {moe::FormKind::swiglu, moe::FormKind::relu, moe::FormKind::clamped_before};
    std::size_t n = 0;
    for (const std::size_t d_model : {1U, 31U, 33U, 64U, 129U}) {
        for (const std::size_t d_ff : {1U, 32U, 47U, 65U, 130U}) {
            const moe::AnyForm form{.kind = kinds[n % 3], .limit = 0.7};
            Draw draw(n++);
            const BankWeights<W> weights(draw, 2, d_model, d_ff, form.gated(), draw.coin());
            const std::vector<float> x = random_elements<float>(draw, 9 * d_model, 1);
            const BankWeights<float> kept = kept_weights<F>(weights);
            const auto expected = run_experts(moe::ExpertBank<float, moe::AnyForm>(form, kept.stacks()), x);
            const moe::PackedExperts<F, moe::AnyForm> packed(moe::ExpertBank<W, moe::AnyForm>(form, weights.stacks()),
                                                             ReversedExecutor(3), moe::Compute::exact);
            INFO("d_model " << d_model << ", d_ff " << d_ff);
            REQUIRE(same_bits(run_experts(packed, x), expected));
        }
    }
}

}  // namespace moe_test
