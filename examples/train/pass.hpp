#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

#include "attention.hpp"
#include "block.hpp"
#include "cross_entropy.hpp"
#include "model.hpp"

namespace trainer {

/// Sequences of equal length, one after the other.
struct Batch {
    std::span<const std::int32_t> tokens;   ///< (n_sequences * length) within the vocabulary
    std::span<const std::int32_t> targets;  ///< what follows each of them, or no_target
    std::size_t n_sequences = 0;
    std::uint64_t first_position = 0;  ///< of the first token in all of a training, for gates that draw lots
};

/// What gradients are computed of.
enum class Learns : unsigned char {
    everything,
    blocks  ///< what the sparse blocks add to: all else is frozen
};

/// Forward and backward passes of a model over sequences of one length, and their memory, which grows with the largest
/// batch and is used again.
template <class T>
class Pass {
public:
    /// The model outlives it. `blocks`, one a layer, stand in place of the model's own.
    Pass(const Model<T>& model, std::size_t length, Blocks<T> blocks, Learns learns = Learns::everything);
    Pass(const Model<T>& model, std::size_t length) : Pass(model, length, blocks_of(model)) {}

    /// Computes the logits of a batch.
    void forward(const Batch& batch, const moe::ExecutorRef& threads);

    /// `sum` + the losses of all targets of that batch, nats, added sequence by sequence; the logits become `scale`
    /// times its gradient.
    [[nodiscard]] double cross_entropy(double sum, double scale, const moe::ExecutorRef& threads);

    /// -log of the probability of each target, in the order of the tokens; 0 without one. Uses up the logits.
    [[nodiscard]] std::span<const double> losses(const moe::ExecutorRef& threads);

    /// What each sparse block did, for losses of the routing and for counts: between forward and backward. Without
    /// those that have no plan.
    [[nodiscard]] const std::vector<moe::Tape<T>*>& tapes() noexcept { return tapes_; }
    [[nodiscard]] moe::Workspace& workspace() noexcept { return workspace_; }

    /// Adds the gradients to those of the model. After cross_entropy, which leaves those of the logits.
    void backward(const moe::ExecutorRef& threads);

private:
    /// Of one layer.
    struct LayerMemory {
        Matrix<T> x;                       ///< (n_tokens, d_model) the residual stream
        std::vector<T> attention_inverse;  ///< (n_tokens) of the norm
        AttentionTape<T> attention;
        Matrix<T> middle;            ///< the residual stream behind the attention
        std::vector<T> moe_inverse;  ///< (n_tokens)
        Matrix<T> moe_input;
    };

    void resize(std::size_t n_sequences);
    [[nodiscard]] Rows<T> rows(Matrix<T>& matrix, std::size_t sequence) const {
        return matrix.middleRows(signed_size(sequence * length_), signed_size(length_));
    }
    [[nodiscard]] std::span<T> rows(std::vector<T>& values, std::size_t sequence) const {
        return std::span<T>(values).subspan(sequence * length_, length_);
    }
    [[nodiscard]] static AttentionWeights<T> weights_of(const Layer<T>& layer) {
        return {weight(layer.query), weight(layer.key), weight(layer.value), weight(layer.output)};
    }
    [[nodiscard]] BlockCall block_call(const moe::ExecutorRef& threads) {
        return {batch_.n_sequences, batch_.first_position, batch_.tokens, workspace_, threads};
    }
    void embed();
    void backward_head(const moe::ExecutorRef& threads);
    void backward_moe(std::size_t layer, const moe::ExecutorRef& threads);
    void backward_attention(std::size_t layer, const moe::ExecutorRef& threads);
    /// Through a norm whose input was `x`: from d_normed_, added to dx_.
    void backward_norm(const moe::Parameter<T>& norm, Matrix<T>& x, std::vector<T>& inverse,
                       const moe::ExecutorRef& threads);

    const Model<T>& model_;
    std::size_t length_;
    Attention<T> attention_;
    Learns learns_;
    Batch batch_;
    std::size_t capacity_ = 0;  ///< sequences that there is memory for
    std::vector<LayerMemory> layers_;
    Blocks<T> blocks_;
    std::vector<moe::Tape<T>*> tapes_;
    moe::Workspace workspace_;
    Matrix<T> x_;  ///< what the last layer leaves
    std::vector<T> inverse_;
    Matrix<T> normed_;
    Matrix<T> logits_;
    Matrix<T> dx_;  ///< the gradient of the residual stream
    Matrix<T> d_normed_;
    AttentionGradients<T> attention_gradients_;
    Matrix<T> norm_gradients_;  ///< (n_sequences, d_model): each sequence's sum
    std::vector<double> losses_;
};

}  // namespace trainer
