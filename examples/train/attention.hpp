#pragma once

#include <vector>

#include "../generate/config.hpp"
#include "matrix.hpp"

namespace trainer {

using generate::Config;

/// The four matrices of a layer's attention.
template <class T>
struct AttentionWeights {
    Weight<T> query;   ///< (n_heads * head_dim, d_model)
    Weight<T> key;     ///< (n_kv_heads * head_dim, d_model)
    Weight<T> value;   ///< the same
    Weight<T> output;  ///< (d_model, n_heads * head_dim)
};

/// What the attention of one layer keeps of a forward pass for the backward pass.
template <class T>
struct AttentionTape {
    Matrix<T> input;                ///< (n_tokens, d_model)
    Matrix<T> queries;              ///< (n_tokens, n_heads * head_dim), rotated
    Matrix<T> keys;                 ///< (n_tokens, n_kv_heads * head_dim), rotated
    Matrix<T> values;               ///< (n_tokens, n_kv_heads * head_dim)
    std::vector<Matrix<T>> shares;  ///< one a sequence and head, (length, length): how much of which value
    Matrix<T> mixed;                ///< (n_tokens, n_heads * head_dim) values, before the output projection

    void resize(const Config& config, std::size_t n_sequences, std::size_t length);
};

/// Gradients within the attention of one layer: those of its products, which the gradients of the weights are made of.
template <class T>
struct AttentionGradients {
    Matrix<T> queries;
    Matrix<T> keys;
    Matrix<T> values;
    Matrix<T> mixed;
    std::vector<Matrix<T>> scores;  ///< one a sequence, (length, length): scratch

    void resize(const Config& config, std::size_t n_sequences, std::size_t length);
};

/// Causal attention with grouped queries (Ainslie et al. 2023, 2305.13245) and rotary positions as generate::Attention
/// computes it, of whole sequences and with its gradients. Sequences are independent: threads take one each.
template <class T>
class Attention {
public:
    /// For positions below `length`.
    Attention(const Config& config, std::size_t length);

    /// y += the attention of sequence `s`, the rows [s * length, (s + 1) * length), of tape.input.
    void forward(const AttentionWeights<T>& weights, std::size_t s, AttentionTape<T>& tape, Rows<T> y) const;

    /// dx = the gradient of the input of sequence `s`, from dy. Leaves in `gradients` those of the products.
    void backward(const AttentionWeights<T>& weights, std::size_t s, const AttentionTape<T>& tape,
                  const ConstRows<T>& dy, AttentionGradients<T>& gradients, Rows<T> dx) const;

private:
    /// Queries that are multiplied at once with all keys that the last of them sees.
    static constexpr Eigen::Index block = 64;

    void rotate(Rows<T> rows, T direction) const;

    Eigen::Index length_;
    Eigen::Index n_heads_;
    Eigen::Index group_;  ///< heads of queries that share one of keys and values
    Eigen::Index head_dim_;
    Matrix<T> cosines_;  ///< (length, head_dim / 2)
    Matrix<T> sines_;    ///< (length, head_dim / 2)
};

}  // namespace trainer
