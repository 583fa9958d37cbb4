#pragma once

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/latent.hpp"
#include "moe/train.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::latent_gradients_test {

struct Shape {
    LayerShape inner;
    std::size_t d_model;
    std::size_t d_router;
    std::vector<std::size_t> shared_widths;
    bool biases;
};

/// A layer, tokens, gradients, and the same in double.
template <class T>
struct Case {
    using Bank = moe::ExpertBank<T, moe::AnyForm>;

    Shape shape;
    std::size_t n;
    GateMemory gate_memory;
    ReferenceCase<T> inner;
    RuntimeChoice gate;
    std::vector<T> in, in_bias, out, out_bias, x, read, dy, dx, y;
    std::vector<BankWeights<T>> shared_weights;
    std::vector<T> d_in, d_in_bias, d_out, d_out_bias, d_router, d_router_bias, d_read, d_constants, d_mixes;
    std::vector<T> d_inner_bias;
    BankGradients<T> experts;
    std::vector<BankGradients<T>> shared_experts;
    moe::LatentGradients<T> to;
    moe::LatentTape<T> tape;
    moe::Workspace workspace;
    moe::ForwardOptions<T> options;

    Case(Draw& draw, const Shape& the_shape, std::size_t n_tokens, bool own_input)
        : shape(the_shape),
          n(n_tokens),
          inner(draw, shape.inner, shape.d_router),
          gate(random_choice(draw, shape.inner.n_choices(), gate_memory)),
          in(random_elements<T>(draw, d_latent() * shape.d_model, 1)),
          in_bias(random_elements<T>(draw, shape.biases ? d_latent() : 0, 1)),
          out(random_elements<T>(draw, d_latent() * shape.d_model, 1)),
          out_bias(random_elements<T>(draw, shape.biases ? shape.d_model : 0, 1)),
          x(random_elements<T>(draw, n * shape.d_model, 1)),
          read(random_elements<T>(draw, own_input ? n * shape.d_router : 0, 1)),
          dy(random_elements<T>(draw, n * shape.d_model, 1)),
          y(n * shape.d_model) {
        for (const std::size_t width : shape.shared_widths) {
            shared_weights.emplace_back(draw, 1, shape.d_model, width, shape.inner.form.gated(), shape.biases);
        }
        shared_experts.resize(shared_weights.size());
        if (own_input) {
            options.router_input = moe::view(std::as_const(read).data(), n, shape.d_router);
        }
        clear();
    }
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    [[nodiscard]] std::size_t d_latent() const { return shape.inner.d_model; }
    [[nodiscard]] std::vector<Bank> shared_banks() const {
        std::vector<Bank> banks;
        for (const BankWeights<T>& weights : shared_weights) {
            banks.emplace_back(shape.inner.form, weights.stacks());
        }
        return banks;
    }
    [[nodiscard]] auto layer() const {
        const std::size_t d = shape.d_model;
        return moe::LatentLayer{
            moe::Linear<T>(moe::stacked(in.data(), 1, d_latent(), d), std::span<const T>(in_bias)),
            moe::MoELayer{inner.router(gate), inner.bank(), inner.options()},
            moe::Linear<T>(moe::stacked(out.data(), 1, d, d_latent()), std::span<const T>(out_bias)),
            shared_weights.empty() ? moe::SharedExperts<Bank>() : moe::SharedExperts<Bank>(shared_banks())};
    }

    void clear() {
        const std::size_t d = shape.d_model;
        to.in = gradient_stack(d_in, 1, d_latent(), d);
        to.out = gradient_stack(d_out, 1, d, d_latent());
        d_in_bias.assign(in_bias.size(), T(0));
        to.in_bias = d_in_bias;
        d_out_bias.assign(out_bias.size(), T(0));
        to.out_bias = d_out_bias;
        to.inner.router = gradient_stack(d_router, 1, shape.inner.n_choices(), shape.d_router);
        d_router_bias.assign(shape.inner.n_choices(), T(0));
        to.inner.router_bias = d_router_bias;
        d_read.assign(read.size(), T(0));
        to.inner.router_input = moe::view(d_read.data(), read.empty() ? 0 : n, shape.d_router);
        to.inner.experts = experts.over(inner.bank());
        d_inner_bias.assign(d_latent(), T(0));
        to.inner.output_bias = d_inner_bias;
        const auto options_of_inner = inner.options();
        const auto& null = options_of_inner.null_experts;
        d_constants.assign(null.constants.rows() * d_latent(), T(0));
        d_mixes.assign(null.mixes.rows() * d_latent(), T(0));
        to.inner.constants = moe::view(d_constants.data(), null.constants.rows(), d_latent());
        to.inner.mixes = moe::view(d_mixes.data(), null.mixes.rows(), d_latent());
        to.shared.clear();
        const auto banks = shared_banks();
        for (std::size_t s = 0; s < banks.size(); ++s) {
            to.shared.push_back(shared_experts[s].over(banks[s]));
        }
        dx.assign(n * d, T(7));
    }
    template <class Any, class E = moe::SerialExecutor>
    void forward(const Any& any, std::size_t from, std::size_t count, const E& executor = {}) {
        const std::size_t d = shape.d_model;
        moe::forward(any, moe::view(std::as_const(x).data() + from * d, count, d),
                     moe::view(y.data() + from * d, count, d), tape, workspace, executor, options);
    }
    template <class Any, class E = moe::SerialExecutor>
    void backward(const Any& any, std::size_t from, std::size_t count, const E& executor = {},
                  const moe::BackwardOptions& how = {}) {
        const std::size_t d = shape.d_model;
        moe::backward(any, tape, moe::view(std::as_const(dy).data() + from * d, count, d),
                      moe::view(dx.data() + from * d, count, d), to, workspace, executor, how);
    }
    template <class Any, class E = moe::SerialExecutor>
    void run(const Any& any, const E& executor = {}, const moe::BackwardOptions& how = {}) {
        forward(any, 0, n, executor);
        backward(any, 0, n, executor, how);
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = dx;
        for (const std::vector<T>* part : {&d_in, &d_in_bias, &d_out, &d_out_bias, &d_router, &d_router_bias, &d_read,
                                           &d_constants, &d_mixes, &d_inner_bias}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        experts.append_to(result);
        for (const BankGradients<T>& shared : shared_experts) {
            shared.append_to(result);
        }
        return result;
    }

    [[nodiscard]] reference::Latent definition() const {
        reference::Latent result{to_vector(in),  to_vector(in_bias),  inner.definition(),
                                 to_vector(out), to_vector(out_bias), {}};
        result.inner.rule = rule_of(gate);
        const auto banks = shared_banks();
        for (const Bank& bank : banks) {
            result.shared.push_back(reference_expert(bank, shape.inner.form, 0));
        }
        return result;
    }
    /// Whether rounding may decide who goes where.
    [[nodiscard]] bool is_decided() const {
        const reference::Latent latent = definition();
        const std::vector<T>& input = read.empty() ? x : read;
        for (std::size_t t = 0; t < n; ++t) {
            const auto logits = reference::router_logits(
                latent.inner, to_vector(std::span(input).subspan(t * shape.d_router, shape.d_router)));
            if (!moe_test::is_decided(latent.inner.rule, logits,
                                      static_cast<double>(std::numeric_limits<T>::epsilon()))) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] GradientError compare() const {
        const reference::LatentGradients expected =
            reference::backward(definition(), to_vector(x), to_vector(read.empty() ? x : read), to_vector(dy));
        GradientError error;
        reference::Vector of_x = expected.x;
        if (read.empty()) {
            reference::add_scaled(of_x, 1, expected.inner.router_input);
        }
        error.compare(dx, of_x);
        error.compare(d_read, read.empty() ? reference::Vector{} : expected.inner.router_input);
        error.compare(d_in, expected.in);
        error.compare(d_in_bias, expected.in_bias);
        error.compare(d_out, expected.out);
        error.compare(d_out_bias, expected.out_bias);
        error.compare(d_router, expected.inner.router);
        if (!expected.inner.router_bias.empty()) {
            error.compare(d_router_bias, expected.inner.router_bias);
        }
        if (!expected.inner.output_bias.empty()) {
            error.compare(d_inner_bias, expected.inner.output_bias);
        }
        const auto joined = [](const std::vector<reference::Vector>& rows) {
            reference::Vector all_rows;
            for (const reference::Vector& row : rows) {
                all_rows.insert(all_rows.end(), row.begin(), row.end());
            }
            return all_rows;
        };
        error.compare(d_constants, joined(expected.inner.constants));
        error.compare(d_mixes, joined(expected.inner.mixes));
        experts.compare(error, expected.inner.experts);
        for (std::size_t s = 0; s < shared_experts.size(); ++s) {
            shared_experts[s].compare(error, {expected.shared[s]});
        }
        return error;
    }
};

}  // namespace moe_test::latent_gradients_test
