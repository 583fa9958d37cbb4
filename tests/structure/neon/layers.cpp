#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "moe/gating/strategies/token_choice.hpp"
#include "moe/layer/pack.hpp"
#include "moe/reference/layer/layer.hpp"
#include "suites.hpp"
#include "support/compare.hpp"
#include "support/kept.hpp"
#include "support/layer_cases.hpp"

namespace neon {

namespace {

namespace reference = moe::reference;

constexpr std::size_t n_experts = 4;
constexpr std::size_t d_model = 70;
constexpr std::size_t d_ff = 90;
constexpr std::size_t n_tokens = 33;

struct Case {
    moe_test::Draw draw{1};
    moe_test::BankWeights<float> experts{draw, n_experts, d_model, d_ff, true, false};
    std::vector<float> router = moe_test::random_elements<float>(draw, n_experts* d_model, 0.5);
    std::vector<float> x = moe_test::random_elements<float>(draw, n_tokens* d_model, 1);

    /// Of the weights as format F keeps them.
    template <class F>
    [[nodiscard]] reference::Vector definition() const {
        reference::Layer layer{.d_model = d_model, .router = {router.begin(), router.end()}};
        layer.rule = {.top_k = 2, .norm = reference::Norm::sum};
        const std::vector<float> gate = moe_test::as_kept<F>(experts.gate, d_model);
        const std::vector<float> up = moe_test::as_kept<F>(experts.up, d_model);
        const std::vector<float> down = moe_test::as_kept<F>(experts.down, d_ff);
        for (std::size_t e = 0; e < n_experts; ++e) {
            const auto part = [e](const std::vector<float>& weights) {
                const auto values = std::span(weights).subspan(e * d_ff * d_model, d_ff * d_model);
                return reference::Vector(values.begin(), values.end());
            };
            layer.experts.push_back({d_model, d_ff, reference::Form::swiglu, part(gate), part(up), part(down)});
        }
        const reference::Vector input(x.begin(), x.end());
        reference::Vector y;
        reference::forward(layer, input, input, y);
        return y;
    }
};

/// The layer applied to all tokens, `batch` at a time.
template <class Layer>
std::vector<float> forward(const Layer& layer, const std::vector<float>& x, std::size_t batch) {
    std::vector<float> y(x.size());
    moe::Workspace workspace;
    for (std::size_t first = 0; first < n_tokens; first += batch) {
        const std::size_t count = std::min(batch, n_tokens - first);
        layer.forward(moe::view(&x[first * d_model], count, d_model), moe::view(&y[first * d_model], count, d_model),
                      workspace);
    }
    return y;
}

template <class F>
void check_format(Verdict& verdict, const std::string& name, moe::Compute compute) {
    const Case data;
    const moe::MoELayer layer{
        moe::Router{moe::view(data.router.data(), n_experts, d_model),
                    moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}},
        moe::SwiGLU{data.experts.stacks().gate, data.experts.stacks().up, data.experts.stacks().down}};
    const auto packed = moe::pack<F>(layer, moe::SerialExecutor{}, compute);
    const std::vector<float> y = forward(packed, data.x, n_tokens);
    const double error = moe_test::nmse(y, data.definition<F>());
    const bool integer = compute == moe::Compute::int8;
    verdict.check(error <= (integer ? 2e-4 : 1e-12), name + " is wrong by " + std::to_string(error));
    verdict.check(!integer || error >= 1e-6, name + " did not compute with integers");
    for (const std::size_t batch : {1U, 7U}) {
        verdict.check(moe_test::same_bits(forward(packed, data.x, batch), y),
                      name + " has other bits in batches of " + std::to_string(batch));
    }
}

}  // namespace

void check_layers(Verdict& verdict) {
    using moe::Compute;
    check_format<float>(verdict, "layer of float", Compute::exact);
    check_format<moe::bfloat16>(verdict, "layer of bfloat16", Compute::exact);
    check_format<moe::float16>(verdict, "layer of float16", Compute::exact);
    check_format<moe::Int8>(verdict, "layer of Int8, exact", Compute::exact);
    check_format<moe::Int4>(verdict, "layer of Int4, exact", Compute::exact);
    check_format<moe::Int8>(verdict, "layer of Int8, integers", Compute::int8);
    check_format<moe::Int4>(verdict, "layer of Int4, integers", Compute::int8);
}

}  // namespace neon
