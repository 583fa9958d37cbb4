#pragma once

#include <functional>
#include <optional>
#include <utility>

#include <moe/instantiate.hpp>

#include "../../../examples/train/block.hpp"

namespace compare {

/// A layer under a gate that may be another one at each step.
template <class MoE>
class GatedBlock : public trainer::Block<float> {
public:
    /// `moe` outlives it. `gate` is asked before each forward pass.
    GatedBlock(const MoE& moe, moe::LayerGradients<float> gradients, std::function<moe::AnyGate()> gate)
        : moe_(&moe), gradients_(std::move(gradients)), gate_(std::move(gate)) {}

    void forward(moe::MatrixView<const float> x, moe::MatrixView<float> y, const trainer::BlockCall& call) override {
        gated_.emplace(*moe_, gate_());
        moe::forward(*gated_, x, y, tape_, call.workspace, call.threads,
                     {.accumulate = true, .token_ids = call.tokens, .first_position = call.first_position});
    }
    void backward(moe::MatrixView<const float> dy, moe::MatrixView<float> dx, const trainer::BlockCall& call) override {
        moe::LayerGradients<float> wanted = gradients_;
        if (!gated_->router().has_logits()) {
            wanted.router = {};
        }
        moe::backward(*gated_, tape_, dy, dx, wanted, call.workspace, call.threads);
    }
    [[nodiscard]] moe::Tape<float>* tape() noexcept override { return &tape_; }

private:
    const MoE* moe_;
    moe::LayerGradients<float> gradients_;
    std::function<moe::AnyGate()> gate_;
    std::optional<moe::LayerWithGate<MoE, moe::AnyGate>> gated_;
    moe::Tape<float> tape_;
};

/// A layer of the trained model under another gate.
using ModelBlock = GatedBlock<trainer::Layer<float>::MoEBlock>;

}  // namespace compare
