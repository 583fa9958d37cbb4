#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <type_traits>
#include <vector>

#include <moe/instantiate.hpp>

/// A user's namespace, with types of every kind the library takes, and with functions that have the names of the
/// library's. Its code compiles only if the library never asks for one of its own functions without saying so.
namespace guest {

/// The return type of a function of the user's that takes anything. Nothing has it: who finds the function gets an
/// error.
template <class... A>
struct Found {
    static_assert(sizeof...(A) > 1000, "a function of the user's namespace was found for a call of the library");
};
#include "greedy.hpp"

struct Activation {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const {
        return x * moe::math::sigmoid(x);
    }
    template <class V>
    [[nodiscard]] V derivative(const V& x) const {
        const V s = moe::math::sigmoid(x);
        return s * (moe::math::constant<V>(1) + x * (moe::math::constant<V>(1) - s));
    }
};
/// The same for scalars.
struct ScalarActivation {
    template <class V>
        requires std::is_floating_point_v<V>
    [[nodiscard]] V operator()(V x) const { return x * moe::math::sigmoid(x); }
    template <class V>
        requires std::is_floating_point_v<V>
    [[nodiscard]] V derivative(V x) const { return Activation{}.derivative(x); }
};

struct Form {
    static constexpr bool gated() { return true; }
    void validate() const {}
    template <class V>
    [[nodiscard]] V operator()(const V& gate, const V& up) const {
        return gate * moe::math::sigmoid(gate) * up;
    }
};

struct Score {
    void validate() const {}
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        moe::Softmax{}(logits, scores);
    }
    template <std::floating_point T>
    void backward(std::span<const T> logits, std::span<const T> scores, std::span<const T> d_scores,
                  std::span<T> d_logits) const {
        moe::detail::add_score_gradient<T>(moe::Softmax{}, logits, scores, d_scores, d_logits);
    }
};

/// Two experts a token, as TokenChoice takes them.
struct TokenGate {
    static constexpr bool needs_logits = true;
    [[nodiscard]] int max_per_token(int) const { return 2; }
    [[nodiscard]] int n_experts(int n_logits) const { return n_logits; }
    void validate(std::size_t) const {}
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::TokenContext, moe::BasicSelection<T> out) const {
        return moe::TokenChoice<>{.top_k = 2}.select(logits, out);
    }
    template <std::floating_point T>
    void weigh(std::span<const T> logits, std::span<const moe::ExpertId> experts, moe::BasicSelection<T> out) const {
        moe::TokenChoice<>{.top_k = 2}.weigh(logits, experts, out);
    }
    template <std::floating_point T>
    void backward(std::span<const T> logits, const moe::Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::softmax_backward(logits, chosen, d_weights, d_logits);
    }
};
/// The same, written for float alone.
struct FloatGate {
    [[nodiscard]] int max_per_token() const { return 2; }
    int select(std::span<const float> logits, moe::Selection out) const {
        return moe::TokenChoice<>{.top_k = 2}.select(logits, out);
    }
    void backward(std::span<const float> logits, const moe::Chosen<float>& chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const {
        moe::softmax_backward(logits, chosen, d_weights, d_logits);
    }
};
struct BatchGate {
    [[nodiscard]] int max_per_token(int, int) const { return 2; }
    [[nodiscard]] int max_assignments(int n_tokens, int) const { return 2 * n_tokens; }
    template <std::floating_point T>
    void select(moe::MatrixView<const T> logits, moe::BatchSelection<T> out) const {
        moe::Capacity<TokenGate>{.limit = moe::CapacityLimit::fixed(100)}.select(logits, out);
    }
    template <std::floating_point T>
    void backward(std::span<const T> logits, const moe::Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::softmax_backward(logits, chosen, d_weights, d_logits);
    }
};

/// The only expert there is, and a block that stands behind it.
struct FirstOfOne {
    [[nodiscard]] int max_per_token() const { return 1; }
    template <std::floating_point T>
    int select(std::span<const T>, moe::BasicSelection<T> out) const {
        out.experts[0] = 0;
        out.weights[0] = 1;
        return 1;
    }
};
struct Block {
    template <class T>
    void operator()(moe::MatrixView<const T> x, moe::MatrixView<T> y, std::span<const moe::Index>) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            std::copy_n(x.row(t), x.cols(), y.row(t));
        }
    }
};

/// A pool, whose numbers are of a type of its own.
struct Executor {
    struct Count {
        operator std::size_t() const { return 3; }  // NOLINT: implicit, which is all an executor promises
    };
    [[nodiscard]] Count concurrency() const { return {}; }
    void run(moe::ParallelWork work) const {
        for (std::size_t ith = 0; ith < 3; ++ith) {
            work(ith, 3);
        }
    }
};

template <class T>
struct Observer : moe::Observer<T> {
    int plans = 0;
    void on_plan(const moe::RoutingRecord<T>&) override { ++plans; }
};

/// A layer around another.
template <class Inner>
struct Layer {
    using value_type = typename Inner::value_type;
    Inner inner;

    [[nodiscard]] std::size_t d_model() const { return inner.d_model(); }
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        return inner.workspace_bytes(n_tokens, n_workers);
    }
    template <class E>
    void forward(moe::MatrixView<const value_type> x, moe::MatrixView<value_type> y, moe::Workspace& workspace,
                 const E& executor, const moe::ForwardOptions<value_type>& options) const {
        inner.forward(x, y, workspace, executor, options);
    }
};

/// A source of panels around a bank.
template <class Bank>
struct Source : Bank {
    using Bank::Bank;
    explicit Source(Bank bank) : Bank(std::move(bank)) {}
};

/// Counts of a type of the user's.
struct Counts : std::array<int, 4> {};

/// Weights, tokens and results of one small layer: 4 experts of d_model 8 and d_ff 6, 5 tokens.
template <class T>
struct Data {
    static constexpr std::size_t n_experts = 4;
    static constexpr std::size_t d_model = 8;
    static constexpr std::size_t d_ff = 6;
    static constexpr std::size_t n_tokens = 5;

    std::vector<T> router = numbers(n_experts * d_model, 1);
    std::vector<T> gate = numbers(n_experts * d_ff * d_model, 2);
    std::vector<T> up = numbers(n_experts * d_ff * d_model, 3);
    std::vector<T> down = numbers(n_experts * d_model * d_ff, 4);
    std::vector<T> x = numbers(n_tokens * d_model, 5);

    [[nodiscard]] moe::MatrixView<const T> router_view() const { return moe::view(router.data(), n_experts, d_model); }
    [[nodiscard]] moe::MatrixView<const T> x_view() const { return moe::view(x.data(), n_tokens, d_model); }
    [[nodiscard]] moe::ExpertWeights<T> weights() const {
        return {moe::stacked(gate.data(), n_experts, d_ff, d_model),
                moe::stacked(up.data(), n_experts, d_ff, d_model),
                moe::stacked(down.data(), n_experts, d_model, d_ff),
                {},
                {},
                {}};
    }

    static std::vector<T> numbers(std::size_t n, std::uint64_t seed) {
        std::vector<T> result(n);
        for (std::size_t i = 0; i < n; ++i) {
            result[i] = static_cast<T>(moe::random_uniform(seed, i) - 0.5);
        }
        return result;
    }

    /// What `layer` makes of x.
    template <class L>
    std::vector<T> output(const L& layer) const {
        std::vector<T> y(x.size());
        moe::Workspace workspace;
        Observer<T> observer;
        layer.forward(x_view(), moe::view(y.data(), n_tokens, d_model), workspace, Executor{}, {.observer = &observer});
        return y;
    }

    /// The layer of the library's own types, and what it makes of x.
    [[nodiscard]] auto plain_layer() const {
        return moe::MoELayer{moe::Router{router_view(), moe::TokenChoice<>{.top_k = 2}},
                             moe::ExpertBank<T, moe::Gated<moe::Silu>>({}, weights())};
    }
};

/// Counts what does not hold, and names it.
class Report {
public:
    void expect(bool holds, const char* what) {
        if (!holds) {
            std::printf("FAILED: %s\n", what);
            ++failures_;
        }
    }
    [[nodiscard]] int failures() const { return failures_; }

private:
    int failures_ = 0;
};

/// The other files.
void use_eigen(Report& result);
void use_io(Report& result);
void use_statistics(Report& result);
void use_training(Report& result);

}  // namespace guest
