#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/reference/backward/expert.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

/// Memory for gradients, and how far they are from those of the definition.
namespace moe_test {

/// Sums of squares over all gradients of a case.
struct GradientError {
    double error = 0;
    double power = 0;
    std::size_t sizes_differ = 0;

    template <class Values>
    void compare(const Values& values, const moe::reference::Vector& expected) {
        sizes_differ += values.size() != expected.size() ? 1U : 0U;
        for (std::size_t i = 0; i < std::min<std::size_t>(values.size(), expected.size()); ++i) {
            const double difference = static_cast<double>(values[i]) - expected[i];
            error += difference * difference;
            power += expected[i] * expected[i];
        }
    }
    /// NaN, which passes nothing, where sizes differ.
    [[nodiscard]] double nmse() const {
        return sizes_differ > 0 ? std::numeric_limits<double>::quiet_NaN() : (error == 0 ? 0 : error / power);
    }
};

/// `value` in `n` matrices, and where gradients of that shape go; no gradients where there is no memory.
template <class T>
moe::MutableStack<T> gradient_stack(std::vector<T>& memory, std::size_t n, std::size_t rows, std::size_t columns,
                                    T value = 0) {
    memory.assign(n * rows * columns, value);
    return memory.empty() ? moe::MutableStack<T>() : moe::stacked_gradients(memory.data(), n, rows, columns);
}

/// Of a bank of experts.
template <class T>
struct BankGradients {
    std::vector<T> gate, up, down, gate_bias, up_bias, down_bias;

    template <class Bank>
    moe::ExpertGradients<T> over(const Bank& bank) {
        const std::size_t n = bank.n_experts();
        const std::size_t gated = bank.form().gated() ? n : 0;
        return {.gate = gradient_stack(gate, gated, bank.d_ff(), bank.d_model()),
                .up = gradient_stack(up, n, bank.d_ff(), bank.d_model()),
                .down = gradient_stack(down, n, bank.d_model(), bank.d_ff()),
                .gate_bias = gradient_stack(gate_bias, gated, bank.d_ff(), 1),
                .up_bias = gradient_stack(up_bias, n, bank.d_ff(), 1),
                .down_bias = gradient_stack(down_bias, n, bank.d_model(), 1)};
    }

    /// Biases that are not there have gradients all the same.
    void compare(GradientError& error, const std::vector<moe::reference::ExpertGradients>& expected) const {
        using E = moe::reference::ExpertGradients;
        const auto one = [&](const std::vector<T>& values, moe::reference::Vector E::*member) {
            moe::reference::Vector all;
            for (const E& expert : expected) {
                all.insert(all.end(), (expert.*member).begin(), (expert.*member).end());
            }
            if (!all.empty() || values.empty()) {
                error.compare(values, all);
            }
        };
        one(gate, &E::gate);
        one(up, &E::up);
        one(down, &E::down);
        one(gate_bias, &E::gate_bias);
        one(up_bias, &E::up_bias);
        one(down_bias, &E::down_bias);
    }

    void append_to(std::vector<T>& all) const {
        for (const std::vector<T>* part : {&gate, &up, &down, &gate_bias, &up_bias, &down_bias}) {
            all.insert(all.end(), part->begin(), part->end());
        }
    }
};

/// The call throws an Error of this code that says `text`.
template <class Call>
void check_refused(Call&& call, moe::ErrorCode code, const std::string& text) {
    const CaughtError error = error_of(std::forward<Call>(call));
    INFO(error.text);
    CHECK(error.code == code);
    CHECK_THAT(error.text, contains(text));
}

}  // namespace moe_test
