#pragma once

#include <span>
#include <string_view>

#include "../arms/arm.hpp"

namespace bench::backward {

/// Something that is trained, and timed: the library, or a rival of it. All of them have the same weights and add to
/// the same gradients, so that memory need not hold them twice.
class Arm {
public:
    Arm() = default;
    Arm(const Arm&) = delete;
    Arm& operator=(const Arm&) = delete;
    virtual ~Arm() = default;

    [[nodiscard]] virtual std::string_view name() const = 0;

    /// Everything that depends on the batch and need not be timed.
    virtual void prepare(const Batch& batch) = 0;

    /// y (tokens, d_model) = layer(x), for batch.plans[variant]; keeps what backward() needs of it.
    virtual void forward(const Batch& batch, std::size_t variant, moe::MatrixView<float> y) = 0;

    /// dx (tokens, d_model) from dy, and adds to the gradients of the weights, for the forward pass before.
    virtual void backward(const Batch& batch, std::size_t variant, moe::MatrixView<const float> dy,
                          moe::MatrixView<float> dx) = 0;

    /// (n_assignments) the gradients of the weights of the plan that the last backward() found.
    [[nodiscard]] virtual std::span<const float> d_weights() const = 0;
};

}  // namespace bench::backward
