#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

#include "model.hpp"

namespace trainer {

/// What a block is called with beside its matrices.
struct BlockCall {
    std::size_t n_sequences;               ///< of equal length, one after the other: the rows of every matrix
    std::uint64_t first_position;          ///< of the first token in all of a training, for gates that draw lots
    std::span<const std::int32_t> tokens;  ///< (n_tokens) ids, for gates that read them
    moe::Workspace& workspace;
    const moe::ExecutorRef& threads;
};

/// The sparse block of one layer during passes of one model, one pass at a time: what a Pass calls between attention
/// and the next layer. It keeps what its backward pass needs.
template <class T>
class Block {
public:
    Block() = default;
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    virtual ~Block() = default;

    /// y += the block of x, both (n_tokens, d_model). x stays what it is until after backward.
    virtual void forward(moe::MatrixView<const T> x, moe::MatrixView<T> y, const BlockCall& call) = 0;

    /// dx = the gradient of x, from dy. Adds the gradients of the block's parameters to where they belong.
    virtual void backward(moe::MatrixView<const T> dy, moe::MatrixView<T> dx, const BlockCall& call) = 0;

    /// What the routing did in the last forward pass, for losses and counts; null for a block without a plan.
    [[nodiscard]] virtual moe::Tape<T>* tape() noexcept { return nullptr; }
};

/// One for each layer of a model, which outlives them.
template <class T>
using Blocks = std::vector<std::unique_ptr<Block<T>>>;

/// A block that is a layer of the library with a plan: MoELayer, or one under another gate.
template <class T, class MoE>
class RoutedBlock final : public Block<T> {
public:
    /// `gradients`: where those of its parameters are added; what is left out is not computed.
    RoutedBlock(MoE moe, moe::LayerGradients<T> gradients, const moe::BackwardOptions& options = {})
        : moe_(std::move(moe)), gradients_(std::move(gradients)), options_(options) {}

    void forward(moe::MatrixView<const T> x, moe::MatrixView<T> y, const BlockCall& call) override {
        moe::forward(moe_, x, y, tape_, call.workspace, call.threads,
                     {.accumulate = true, .token_ids = call.tokens, .first_position = call.first_position});
    }
    void backward(moe::MatrixView<const T> dy, moe::MatrixView<T> dx, const BlockCall& call) override {
        moe::backward(moe_, tape_, dy, dx, gradients_, call.workspace, call.threads, options_);
    }
    [[nodiscard]] moe::Tape<T>* tape() noexcept override { return &tape_; }

private:
    MoE moe_;
    moe::LayerGradients<T> gradients_;
    moe::BackwardOptions options_;
    moe::Tape<T> tape_;
};

/// The blocks of a model as it is: Mixtral's.
template <class T>
[[nodiscard]] Blocks<T> blocks_of(const Model<T>& model) {
    Blocks<T> blocks;
    for (const Layer<T>& layer : model.layers()) {
        blocks.push_back(std::make_unique<RoutedBlock<T, typename Layer<T>::MoEBlock>>(layer.moe, layer.gradients));
    }
    return blocks;
}

}  // namespace trainer
