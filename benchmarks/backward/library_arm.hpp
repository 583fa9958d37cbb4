#pragma once

#include <memory>
#include <string>

#include "../threads.hpp"
#include "arm.hpp"
#include "parameters.hpp"

namespace bench::backward {

/// The library: router, plan, experts, over views of the weights, one tape and one workspace for all calls.
class LibraryArm : public Arm {
public:
    [[nodiscard]] std::string_view name() const override { return "moe"; }

    /// The plans of the first `variants` of `batch.table`.
    virtual void route(Batch& batch, std::size_t variants) = 0;
    /// A forward pass that keeps nothing.
    virtual void infer(const Batch& batch, std::size_t variant, moe::MatrixView<float> y) = 0;
    /// backward() without what flows to dx through the router: what the rivals compute.
    virtual void backward_experts(const Batch& batch, std::size_t variant, moe::MatrixView<const float> dy,
                                  moe::MatrixView<float> dx) = 0;
    virtual void use(const Threads& threads) = 0;

    [[nodiscard]] virtual std::size_t workspace_bytes() const = 0;
    [[nodiscard]] virtual std::string kernel() const = 0;
};

/// `weights` and `gradients` must outlive it.
[[nodiscard]] std::unique_ptr<LibraryArm> make_library_arm(const Shape& shape, const Parameters& weights,
                                                           const Parameters& gradients, const Threads& threads);

}  // namespace bench::backward
