#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "moe/train.hpp"

/// What tests of backward passes share: memory for all gradients of a layer, and a forward and a backward pass into it.
namespace moe_test {

/// Memory for all gradients of a case, and views of it.
template <class T>
struct Gradients {
    std::vector<T> router, router_bias, router_input, gate, up, down, gate_bias, up_bias, down_bias;
    std::vector<T> shared_gate, output_bias, constants, mixes, dx;
    std::vector<std::vector<T>> shared;
    moe::LayerGradients<T> to;

    template <class Layer>
    Gradients(const Layer& layer, std::size_t n_tokens, std::size_t router_inputs, bool own_input) {
        const auto stack = [](std::vector<T>& memory, std::size_t n, std::size_t rows, std::size_t columns) {
            memory.assign(n * rows * columns, T(0));
            return memory.empty() ? moe::MutableStack<T>() : moe::stacked_gradients(memory.data(), n, rows, columns);
        };
        const std::size_t d = layer.d_model();
        const auto& options = layer.options();
        const std::size_t n_logits = layer.router().linear().outputs();
        to.router = stack(router, 1, n_logits, router_inputs);
        router_bias.assign(n_logits, T(0));
        to.router_bias = router_bias;
        if (own_input) {
            router_input.assign(n_tokens * router_inputs, T(0));
            to.router_input = moe::view(router_input.data(), n_tokens, router_inputs);
        }
        const auto& bank = layer.experts();
        const std::size_t n = bank.n_experts();
        const bool gated = bank.form().gated();
        to.experts.gate = stack(gate, gated ? n : 0, bank.d_ff(), d);
        to.experts.up = stack(up, n, bank.d_ff(), d);
        to.experts.down = stack(down, n, d, bank.d_ff());
        to.experts.gate_bias = stack(gate_bias, gated ? n : 0, bank.d_ff(), 1);
        to.experts.up_bias = stack(up_bias, n, bank.d_ff(), 1);
        to.experts.down_bias = stack(down_bias, n, d, 1);
        const auto& banks = layer.shared().experts();
        shared.resize(6 * banks.size());
        for (std::size_t s = 0; s < banks.size(); ++s) {
            const std::size_t width = banks[s].d_ff();
            to.shared.push_back({.gate = stack(shared[6 * s], gated ? 1 : 0, width, d),
                                 .up = stack(shared[6 * s + 1], 1, width, d),
                                 .down = stack(shared[6 * s + 2], 1, d, width),
                                 .gate_bias = stack(shared[6 * s + 3], gated ? 1 : 0, width, 1),
                                 .up_bias = stack(shared[6 * s + 4], 1, width, 1),
                                 .down_bias = stack(shared[6 * s + 5], 1, d, 1)});
        }
        if (layer.shared().mode() == moe::SharedMode::gated) {
            to.shared_gate = stack(shared_gate, 1, banks.size(), d);
        }
        output_bias.assign(d, T(0));
        to.output_bias = output_bias;
        const std::size_t n_constant = options.null_experts.constants.rows();
        constants.assign(n_constant * d, T(0));
        mixes.assign(options.null_experts.mixes.rows() * d, T(0));
        to.constants = moe::view(constants.data(), n_constant, d);
        to.mixes = moe::view(mixes.data(), options.null_experts.mixes.rows(), d);
        dx.assign(n_tokens * d, T(7));
    }
    Gradients(const Gradients&) = delete;
    Gradients& operator=(const Gradients&) = delete;

    /// Of a layer whose router reads x.
    template <class Layer>
    Gradients(const Layer& layer, std::size_t n_tokens) : Gradients(layer, n_tokens, layer.d_model(), false) {}

    /// All of the parameters, one after the other.
    [[nodiscard]] std::vector<T> parameters() const {
        std::vector<T> result;
        const auto append = [&](const std::vector<T>& part) { result.insert(result.end(), part.begin(), part.end()); };
        for (const std::vector<T>* const part : {&router, &router_bias, &gate, &up, &down, &gate_bias, &up_bias,
                                                 &down_bias, &shared_gate, &output_bias, &constants, &mixes}) {
            append(*part);
        }
        for (const std::vector<T>& part : shared) {
            append(part);
        }
        return result;
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = parameters();
        result.insert(result.end(), dx.begin(), dx.end());
        result.insert(result.end(), router_input.begin(), router_input.end());
        return result;
    }
};

/// What else a forward pass and its backward pass are given.
template <class T>
struct PassOptions {
    moe::ForwardOptions<T> forward{};
    moe::BackwardOptions backward{};
    moe::TapeKeeps keeps = moe::TapeKeeps::products;
};

/// y of tokens x (n, d_model), and into `to` the gradients of sum of <dy, y>. Returns y.
template <class Layer, class T, class E = moe::SerialExecutor>
std::vector<T> run_backward(const Layer& layer, const std::vector<T>& x, const std::vector<T>& dy, Gradients<T>& to,
                            const PassOptions<T>& options = {}, const E& executor = {}) {
    const std::size_t d = layer.d_model();
    const std::size_t n = x.size() / d;
    moe::Tape<T> tape(options.keeps);
    moe::Workspace workspace;
    std::vector<T> y(n * d);
    moe::forward(layer, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace, executor,
                 options.forward);
    moe::backward(layer, tape, moe::view(dy.data(), n, d), moe::view(to.dx.data(), n, d), to.to, workspace, executor,
                  options.backward);
    return y;
}

}  // namespace moe_test
