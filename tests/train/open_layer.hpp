#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/layer_cases.hpp"
#include "train/gradients.hpp"

/// A layer whose memory a test may change: its layers are views of it.
namespace moe_test {

template <class W>
struct OpenLayer {
    using T = moe::ComputeType<W>;
    using Bank = moe::ExpertBank<W, moe::AnyForm>;

    LayerShape shape;
    BankWeights<W> experts;
    std::vector<W> router;       ///< (n_choices, d_model)
    std::vector<W> router_bias;  ///< (n_choices)
    std::vector<W> shared_gate;
    std::vector<T> output_bias;
    std::vector<T> constants;
    std::vector<T> mixes;
    std::vector<BankWeights<W>> shared;

    OpenLayer(Draw& draw, LayerShape the_shape)
        : shape(std::move(the_shape)),
          experts(draw, shape.n_experts, shape.d_model, shape.d_ff, shape.form.gated(), shape.biases),
          router(random_elements<W>(draw, shape.n_choices() * shape.d_model,
                                    3 / std::sqrt(static_cast<double>(shape.d_model)))),
          router_bias(random_elements<W>(draw, shape.n_choices(), 0.5)),
          shared_gate(random_elements<W>(draw, shape.shared_widths.size() * shape.d_model, 1)),
          output_bias(random_elements<T>(draw, shape.output_bias ? shape.d_model : 0, 1)),
          constants(random_elements<T>(draw, shape.n_constant * shape.d_model, 1)),
          mixes(random_elements<T>(draw, shape.mixes ? 2 * shape.n_constant * shape.d_model : 0, 1)) {
        for (const std::size_t width : shape.shared_widths) {
            shared.emplace_back(draw, 1, shape.d_model, width, shape.form.gated(), shape.biases);
        }
    }

    [[nodiscard]] Bank bank() const { return Bank(shape.form, experts.stacks()); }

    template <class Gate>
    [[nodiscard]] moe::Router<W, Gate> routed_by(Gate gate) const {
        return {moe::view(router.data(), shape.n_choices(), shape.d_model), std::span<const W>(router_bias),
                std::move(gate)};
    }
    [[nodiscard]] moe::SharedExperts<Bank> shared_experts() const {
        std::vector<Bank> banks;
        for (const BankWeights<W>& weights : shared) {
            banks.emplace_back(shape.form, weights.stacks());
        }
        if (banks.empty()) {
            return {};
        }
        if (shape.shared_mode == moe::SharedMode::gated) {
            return {std::move(banks), moe::stacked(shared_gate.data(), 1, shared.size(), shape.d_model)};
        }
        return moe::SharedExperts<Bank>(std::move(banks), shape.shared_mode);
    }
    [[nodiscard]] moe::LayerOptions<T> options() const {
        moe::LayerOptions<T> options;
        options.weight_at = shape.weight_at;
        options.routed_scale = shape.routed_scale;
        options.output_bias = output_bias;
        options.pass_unrouted = shape.pass_unrouted;
        options.null_experts = {shape.n_zero, shape.n_identity,
                                moe::view(constants.data(), shape.n_constant, shape.d_model),
                                moe::view(mixes.data(), shape.mixes ? 2 * shape.n_constant : 0, shape.d_model)};
        return options;
    }
    template <class Gate>
    [[nodiscard]] auto layer(Gate gate) const {
        return moe::MoELayer{routed_by(std::move(gate)), bank(), shared_experts(), options()};
    }

    /// Expert e (with weights) becomes what order[e] was.
    void permute(const std::vector<std::size_t>& order) {
        const auto permuted = [&](std::vector<W>& values) { permute_blocks(values, order); };
        for (std::vector<W>* const part :
             {&experts.gate, &experts.up, &experts.down, &experts.gate_bias, &experts.up_bias, &experts.down_bias}) {
            permuted(*part);
        }
        std::vector<std::size_t> all = order;
        for (std::size_t e = order.size(); e < shape.n_choices(); ++e) {
            all.push_back(e);
        }
        permute_blocks(router, all);
        permute_blocks(router_bias, all);
    }

    /// Equal parts of `values`, one an entry of `order`: part i becomes what order[i] was.
    template <class V>
    static void permute_blocks(std::vector<V>& values, const std::vector<std::size_t>& order) {
        const std::vector<V> before = values;
        const std::size_t size = values.size() / order.size();
        for (std::size_t i = 0; i < order.size(); ++i) {
            std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(order[i] * size), size,
                        values.begin() + static_cast<std::ptrdiff_t>(i * size));
        }
    }

    /// Calls visit(name, parameter, its gradient) for all parameters that there are.
    template <class Visit>
    void for_each_parameter(const Gradients<T>& to, Visit&& visit) {
        const auto one = [&](const std::string& name, auto& values, const std::vector<T>& gradient) {
            if (!values.empty()) {
                visit(name, values, gradient);
            }
        };
        one("router", router, to.router);
        one("router_bias", router_bias, to.router_bias);
        one("gate", experts.gate, to.gate);
        one("up", experts.up, to.up);
        one("down", experts.down, to.down);
        one("gate_bias", experts.gate_bias, to.gate_bias);
        one("up_bias", experts.up_bias, to.up_bias);
        one("down_bias", experts.down_bias, to.down_bias);
        one("output_bias", output_bias, to.output_bias);
        one("constants", constants, to.constants);
        one("mixes", mixes, to.mixes);
        if (shape.shared_mode == moe::SharedMode::gated) {
            one("shared_gate", shared_gate, to.shared_gate);
        }
        for (std::size_t s = 0; s < shared.size(); ++s) {
            one("shared gate", shared[s].gate, to.shared[6 * s]);
            one("shared up", shared[s].up, to.shared[6 * s + 1]);
            one("shared down", shared[s].down, to.shared[6 * s + 2]);
            one("shared gate_bias", shared[s].gate_bias, to.shared[6 * s + 3]);
            one("shared up_bias", shared[s].up_bias, to.shared[6 * s + 4]);
            one("shared down_bias", shared[s].down_bias, to.shared[6 * s + 5]);
        }
    }
};

}  // namespace moe_test
