#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "experts/bank_runner.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/unaligned.hpp"

/// Every way released models store their experts, made from one set of weights, must give the bits of the plainest.
namespace moe_test {

template <class W>
class Layouts {
public:
    Layouts(std::size_t n_experts, std::size_t d_model, std::size_t d_ff, std::uint64_t seed)
        : Layouts(Draw(seed), n_experts, d_model, d_ff) {}

    [[nodiscard]] const BankWeights<W>& plain() const { return w_; }

    /// One matrix an expert, behind a table of pointers.
    [[nodiscard]] moe::ExpertWeights<W> separate() {
        moe::ExpertWeights<W> s = w_.stacks();
        s.gate = table(w_.gate, w_.d_ff, w_.d_model);
        s.up = table(w_.up, w_.d_ff, w_.d_model);
        s.down = table(w_.down, w_.d_model, w_.d_ff);
        s.gate_bias = table(w_.gate_bias, w_.d_ff, 1);
        s.up_bias = table(w_.up_bias, w_.d_ff, 1);
        s.down_bias = table(w_.down_bias, w_.d_model, 1);
        return s;
    }
    /// Rows with a gap behind them, experts with another; `gap` 0 is contiguous.
    [[nodiscard]] moe::ExpertWeights<W> with_gaps(std::size_t gap) {
        moe::ExpertWeights<W> s = w_.stacks();
        s.gate = strided(w_.gate, w_.d_ff, w_.d_model, gap);
        s.up = strided(w_.up, w_.d_ff, w_.d_model, gap);
        s.down = strided(w_.down, w_.d_model, w_.d_ff, gap);
        return s;
    }
    /// Addresses no element is aligned to.
    [[nodiscard]] moe::ExpertWeights<W> unaligned() {
        const auto stack = [this](const std::vector<W>& values, std::size_t rows, std::size_t cols) {
            unaligned_.emplace_back(values);
            return moe::stacked(unaligned_.back().data(), w_.n_experts, rows, cols);
        };
        return {stack(w_.gate, w_.d_ff, w_.d_model), stack(w_.up, w_.d_ff, w_.d_model),
                stack(w_.down, w_.d_model, w_.d_ff), stack(w_.gate_bias, w_.d_ff, 1),
                stack(w_.up_bias, w_.d_ff, 1),       stack(w_.down_bias, w_.d_model, 1)};
    }
    /// L2 and L3: gate behind up in one matrix (E, 2 d_ff, d_model), or transposed (E, d_model, 2 d_ff).
    [[nodiscard]] moe::ExpertWeights<W> concatenated(bool transposed) {
        return joined(
            transposed, [this](std::size_t f, bool up) { return up ? w_.d_ff + f : f; },
            [](const moe::WeightStack<W>& s) { return moe::concatenated(s); });
    }
    /// L4: gate in the even outputs, up in the odd ones, transposed (GPT-OSS) or not (Inkling).
    [[nodiscard]] moe::ExpertWeights<W> interleaved(bool transposed) {
        return joined(
            transposed, [](std::size_t f, bool up) { return 2 * f + (up ? 1 : 0); },
            [](const moe::WeightStack<W>& s) { return moe::interleaved(s); });
    }
    /// L5 (DBRX): w1 and v1 (E d_ff, d_model), w2 (E d_ff, d_model) used as x @ w2, so it is down transposed.
    [[nodiscard]] moe::ExpertWeights<W> flat() {
        moe::ExpertWeights<W> s = w_.stacks();
        const W* const w2 = keep(transposed_of(w_.down, w_.d_model, w_.d_ff));
        s.down = moe::transpose(moe::stacked(w2, w_.n_experts, w_.d_ff, w_.d_model));
        return s;
    }

private:
    Layouts(Draw draw, std::size_t n_experts, std::size_t d_model, std::size_t d_ff)
        : w_(draw, n_experts, d_model, d_ff, true, true) {}

    const W* keep(std::vector<W> values) {
        memory_.push_back(std::move(values));
        return memory_.back().data();
    }

    moe::WeightStack<W> table(const std::vector<W>& values, std::size_t rows, std::size_t cols) {
        std::vector<const W*> pointers;
        for (std::size_t e = w_.n_experts; e-- > 0;) {  // in memory backwards, so that no stride could describe them
            const auto begin = values.begin() + static_cast<std::ptrdiff_t>(e * rows * cols);
            pointers.insert(pointers.begin(), keep({begin, begin + static_cast<std::ptrdiff_t>(rows * cols)}));
        }
        return moe::separate(pointers, rows, cols);
    }

    moe::WeightStack<W> strided(const std::vector<W>& values, std::size_t rows, std::size_t cols, std::size_t gap) {
        const std::size_t row_stride = cols + gap;
        const std::size_t expert_stride = rows * row_stride + 3 * gap;
        std::vector<W> memory(w_.n_experts * expert_stride, to_element<W>(1e4F));
        for (std::size_t i = 0; i < values.size(); ++i) {
            memory[i / (rows * cols) * expert_stride + i / cols % rows * row_stride + i % cols] = values[i];
        }
        return moe::stacked(keep(std::move(memory)), w_.n_experts, rows, cols, row_stride, expert_stride);
    }

    std::vector<W> transposed_of(const std::vector<W>& values, std::size_t rows, std::size_t cols) const {
        std::vector<W> result(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            result[i / (rows * cols) * rows * cols + i % cols * rows + i / cols % rows] = values[i];
        }
        return result;
    }

    /// Gate and up in one tensor; `place` says which output each row becomes.
    template <class Place, class Split>
    moe::ExpertWeights<W> joined(bool transposed, const Place& place, const Split& split) {
        const std::size_t outputs = 2 * w_.d_ff;
        const std::size_t d = w_.d_model;
        std::vector<W> both(w_.n_experts * outputs * d);
        std::vector<W> biases(w_.n_experts * outputs);
        for (std::size_t e = 0; e < w_.n_experts; ++e) {
            for (std::size_t f = 0; f < w_.d_ff; ++f) {
                for (const bool up : {false, true}) {
                    const std::size_t row = e * outputs + place(f, up);
                    const std::size_t from = e * w_.d_ff + f;
                    std::copy_n(&(up ? w_.up : w_.gate)[from * d], d, &both[row * d]);
                    biases[row] = (up ? w_.up_bias : w_.gate_bias)[from];
                }
            }
        }
        moe::ExpertWeights<W> s = w_.stacks();
        const moe::GateUp<W> bias = split(moe::stacked(keep(biases), w_.n_experts, outputs, 1));
        s.gate_bias = bias.gate;
        s.up_bias = bias.up;
        if (transposed) {
            const W* const turned = keep(transposed_of(both, outputs, d));
            const moe::GateUp<W> weights = split(moe::transpose(moe::stacked(turned, w_.n_experts, d, outputs)));
            s.gate = weights.gate;
            s.up = weights.up;
            s.down = moe::transpose(moe::stacked(keep(transposed_of(w_.down, d, w_.d_ff)), w_.n_experts, w_.d_ff, d));
        } else {
            const moe::GateUp<W> weights = split(moe::stacked(keep(both), w_.n_experts, outputs, d));
            s.gate = weights.gate;
            s.up = weights.up;
        }
        return s;
    }

    BankWeights<W> w_;
    std::deque<std::vector<W>> memory_;
    std::deque<Unaligned<W>> unaligned_;
};

/// Whether a bank over `weights`, and its packed copy, give `expected`.
template <class W>
void check_layout(const char* name, const std::vector<moe::ComputeType<W>>& expected, moe::ExpertWeights<W> weights,
                  const std::vector<moe::ComputeType<W>>& x) {
    INFO(name);
    using Form = moe::Gated<moe::Silu>;
    const moe::ExpertBank<W, Form> bank(Form{}, std::move(weights));
    REQUIRE(same_bits(run_experts(bank, x), expected));
    REQUIRE(same_bits(run_experts(moe::PackedExperts<W, Form>(bank), x), expected));
    for (std::size_t e = 0; e < bank.n_experts(); ++e) {
        const auto alone = run_experts(bank.expert(e), x);
        REQUIRE(same_bits(alone, std::span(expected).subspan(e * alone.size(), alone.size())));
    }
}

template <class W>
void check_layouts() {
    using T = moe::ComputeType<W>;
    using Form = moe::Gated<moe::Silu>;
    for (const std::size_t d_model : {1U, 7U, 33U, 70U, 130U}) {
        for (const std::size_t d_ff : {1U, 6U, 31U, 65U, 129U}) {
            Layouts<W> layouts(3, d_model, d_ff, 7 * d_model + d_ff);
            Draw draw(d_model);
            const std::vector<T> x = random_elements<T>(draw, 7 * d_model, 1);
            const std::vector<T> expected = run_experts(moe::ExpertBank<W, Form>(Form{}, layouts.plain().stacks()), x);
            INFO("d_model " << d_model << ", d_ff " << d_ff);
            REQUIRE(all_finite(expected));
            check_layout<W>("stacked", expected, layouts.plain().stacks(), x);
            check_layout<W>("separate", expected, layouts.separate(), x);
            check_layout<W>("with gaps", expected, layouts.with_gaps(5), x);
            check_layout<W>("unaligned", expected, layouts.unaligned(), x);
            check_layout<W>("concatenated", expected, layouts.concatenated(false), x);
            check_layout<W>("concatenated, transposed", expected, layouts.concatenated(true), x);
            check_layout<W>("interleaved", expected, layouts.interleaved(false), x);
            check_layout<W>("interleaved, transposed", expected, layouts.interleaved(true), x);
            check_layout<W>("flat", expected, layouts.flat(), x);
        }
    }
}

}  // namespace moe_test
