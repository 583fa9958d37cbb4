#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/experts/any_form.hpp"
#include "moe/experts/packed_experts.hpp"
#include "moe/layer/moe_layer.hpp"

/// Layers with random weights and everything in them that a layer may have.
namespace moe_test {

/// Numbers of one stream, drawn one after the other.
class Draw {
public:
    explicit Draw(std::uint64_t seed) : seed_(seed) {}

    /// Uniform in [-1, 1).
    float value() { return 2 * moe::random_uniform(seed_, counter_++) - 1; }
    /// Uniform in [low, high].
    std::size_t size(std::size_t low, std::size_t high) {
        return low + static_cast<std::size_t>(moe::random_bits(seed_, counter_++) % (high - low + 1));
    }
    bool coin() { return size(0, 1) == 1; }

private:
    std::uint64_t seed_;
    std::uint64_t counter_ = 0;
};

template <class W>
W to_element(float value) {
    if constexpr (std::is_same_v<W, moe::bfloat16>) {
        return moe::to_bfloat16(value);
    } else if constexpr (std::is_same_v<W, moe::float16>) {
        return moe::to_float16(value);
    } else {
        return static_cast<W>(value);
    }
}

/// `count` values in [-scale, scale).
template <class W>
std::vector<W> random_elements(Draw& draw, std::size_t count, double scale) {
    std::vector<W> values(count);
    for (W& value : values) {
        value = to_element<W>(draw.value() * static_cast<float>(scale));
    }
    return values;
}

struct LayerShape {
    std::size_t n_experts = 4;  ///< with weights
    std::size_t d_model = 8;
    std::size_t d_ff = 8;
    bool biases = false;
    std::vector<std::size_t> shared_widths{};
    moe::SharedMode shared_mode = moe::SharedMode::add;
    std::size_t n_zero = 0;
    std::size_t n_identity = 0;
    std::size_t n_constant = 0;
    bool mixes = false;  ///< constant experts add a part of x
    bool output_bias = false;
    bool pass_unrouted = false;
    moe::WeightAt weight_at = moe::WeightAt::output;
    double routed_scale = 1.0;
    moe::AnyForm form{};

    [[nodiscard]] std::size_t n_choices() const { return n_experts + n_zero + n_identity + n_constant; }
};

/// The weights of a bank of experts, contiguous and separate.
template <class W>
struct BankWeights {
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    bool gated;
    bool biases;
    std::vector<W> gate, up, down, gate_bias, up_bias, down_bias;

    BankWeights(Draw& draw, std::size_t experts, std::size_t model, std::size_t ff, bool is_gated, bool has_biases)
        : n_experts(experts), d_model(model), d_ff(ff), gated(is_gated), biases(has_biases) {
        const double in = 2 / std::sqrt(static_cast<double>(model));
        const double out = 2 / std::sqrt(static_cast<double>(ff));
        gate = random_elements<W>(draw, gated ? experts * ff * model : 0, in);
        up = random_elements<W>(draw, experts * ff * model, in);
        down = random_elements<W>(draw, experts * model * ff, out);
        gate_bias = random_elements<W>(draw, gated && biases ? experts * ff : 0, 0.5);
        up_bias = random_elements<W>(draw, biases ? experts * ff : 0, 0.5);
        down_bias = random_elements<W>(draw, biases ? experts * model : 0, 0.5);
    }

    [[nodiscard]] moe::ExpertWeights<W> stacks() const {
        const auto stack = [this](const std::vector<W>& data, std::size_t rows, std::size_t cols) {
            return data.empty() ? moe::WeightStack<W>() : moe::stacked(data.data(), n_experts, rows, cols);
        };
        return {stack(gate, d_ff, d_model), stack(up, d_ff, d_model), stack(down, d_model, d_ff),
                stack(gate_bias, d_ff, 1),  stack(up_bias, d_ff, 1),  stack(down_bias, d_model, 1)};
    }
};

/// A layer's memory, and layers over it.
template <class W>
class LayerCase {
public:
    using T = moe::ComputeType<W>;
    using Bank = moe::ExpertBank<W, moe::AnyForm>;
    using Packed = moe::PackedExperts<W, moe::AnyForm>;

    LayerCase(LayerShape the_shape, std::uint64_t seed) : LayerCase(std::move(the_shape), Draw(seed)) {}

    [[nodiscard]] const LayerShape& shape() const { return shape_; }
    [[nodiscard]] Bank bank() const { return Bank(shape_.form, experts_.stacks()); }

    template <class Gate>
    [[nodiscard]] moe::Router<W, Gate> router(Gate gate) const {
        return {moe::view(router_.data(), shape_.n_choices(), shape_.d_model), std::span<const W>(router_bias_),
                std::move(gate)};
    }

    [[nodiscard]] moe::SharedExperts<Bank> shared() const {
        if (shared_.empty()) {
            return {};
        }
        std::vector<Bank> banks;
        for (const BankWeights<W>& weights : shared_) {
            banks.emplace_back(shape_.form, weights.stacks());
        }
        if (shape_.shared_mode == moe::SharedMode::gated) {
            return {std::move(banks), moe::stacked(shared_gate_.data(), 1, shared_.size(), shape_.d_model)};
        }
        return moe::SharedExperts<Bank>(std::move(banks), shape_.shared_mode);
    }

    [[nodiscard]] moe::LayerOptions<T> options() const {
        moe::LayerOptions<T> options;
        options.weight_at = shape_.weight_at;
        options.routed_scale = shape_.routed_scale;
        options.output_bias = output_bias_;
        options.pass_unrouted = shape_.pass_unrouted;
        options.null_experts = {shape_.n_zero, shape_.n_identity,
                                moe::view(constants_.data(), shape_.n_constant, shape_.d_model),
                                moe::view(mixes_.data(), shape_.mixes ? 2 * shape_.n_constant : 0, shape_.d_model)};
        return options;
    }

    template <class Gate>
    [[nodiscard]] auto layer(Gate gate) const {
        return moe::MoELayer{router(std::move(gate)), bank(), shared(), options()};
    }
    template <class Gate>
    [[nodiscard]] auto packed_layer(Gate gate) const {
        return moe::MoELayer{router(std::move(gate)), Packed(bank()), shared(), options()};
    }

private:
    LayerCase(LayerShape the_shape, Draw draw)
        : shape_(std::move(the_shape)),
          experts_(draw, shape_.n_experts, shape_.d_model, shape_.d_ff, shape_.form.gated(), shape_.biases),
          router_(random_elements<W>(draw, shape_.n_choices() * shape_.d_model, 2)),
          router_bias_(random_elements<W>(draw, shape_.biases ? shape_.n_choices() : 0, 0.5)),
          output_bias_(random_elements<T>(draw, shape_.output_bias ? shape_.d_model : 0, 1)),
          constants_(random_elements<T>(draw, shape_.n_constant * shape_.d_model, 1)),
          mixes_(random_elements<T>(draw, shape_.mixes ? 2 * shape_.n_constant * shape_.d_model : 0, 1)),
          shared_gate_(random_elements<W>(draw, shape_.shared_widths.size() * shape_.d_model, 1)) {
        for (const std::size_t width : shape_.shared_widths) {
            shared_.emplace_back(draw, 1, shape_.d_model, width, shape_.form.gated(), shape_.biases);
        }
    }

    LayerShape shape_;
    BankWeights<W> experts_;
    std::vector<W> router_;
    std::vector<W> router_bias_;
    std::vector<T> output_bias_;
    std::vector<T> constants_;
    std::vector<T> mixes_;
    std::vector<W> shared_gate_;
    std::vector<BankWeights<W>> shared_;
};

/// Every kind of expert, shared and null experts, scales and biases, in random combinations.
LayerShape random_layer_shape(Draw& draw, std::size_t max_size, std::size_t max_experts);

}  // namespace moe_test
