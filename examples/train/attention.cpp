#include "attention.hpp"

#include <algorithm>
#include <cmath>

#include "../generate/rope.hpp"

namespace trainer {

namespace {

/// Row t of a block of scores that begins at position `first` becomes its softmax over the positions [0, first + t];
/// 0 for those that come later.
template <class T>
void causal_softmax(Rows<T> scores, Eigen::Index first, T scale) {
    for (Eigen::Index t = 0; t < scores.rows(); ++t) {
        const Eigen::Index visible = first + t + 1;
        auto seen = scores.row(t).head(visible).array();
        const T largest = seen.maxCoeff();
        seen = (scale * (seen - largest)).exp();
        const T total = ordered_sum<T>(visible, [&](Eigen::Index i) { return seen[i]; });
        seen *= T(1) / total;
        scores.row(t).tail(scores.cols() - visible).setZero();
    }
}

/// d_shares become the gradients of the scores that the softmax read, before their scale.
template <class T>
void softmax_backward(const ConstRows<T>& shares, T scale, Rows<T> d_shares) {
    for (Eigen::Index t = 0; t < shares.rows(); ++t) {
        const T* const p = shares.data() + t * shares.outerStride();
        T* const d = d_shares.data() + t * d_shares.outerStride();
        const T along = ordered_sum<T>(shares.cols(), [&](Eigen::Index i) { return p[i] * d[i]; });
        for (Eigen::Index i = 0; i < shares.cols(); ++i) {
            d[i] = scale * p[i] * (d[i] - along);
        }
    }
}

}  // namespace

template <class T>
void AttentionTape<T>::resize(const Config& config, std::size_t n_sequences, std::size_t length) {
    const Eigen::Index n = signed_size(n_sequences * length);
    input.resize(n, config.d_model);
    queries.resize(n, config.n_heads * config.head_dim);
    keys.resize(n, config.n_kv_heads * config.head_dim);
    values.resize(n, config.n_kv_heads * config.head_dim);
    mixed.resize(n, config.n_heads * config.head_dim);
    shares.assign(n_sequences * unsigned_size(config.n_heads),
                  Matrix<T>::Zero(signed_size(length), signed_size(length)));
}

template <class T>
void AttentionGradients<T>::resize(const Config& config, std::size_t n_sequences, std::size_t length) {
    const Eigen::Index n = signed_size(n_sequences * length);
    queries.resize(n, config.n_heads * config.head_dim);
    keys.resize(n, config.n_kv_heads * config.head_dim);
    values.resize(n, config.n_kv_heads * config.head_dim);
    mixed.resize(n, config.n_heads * config.head_dim);
    scores.assign(n_sequences, Matrix<T>::Zero(signed_size(length), signed_size(length)));
}

template <class T>
Attention<T>::Attention(const Config& config, std::size_t length)
    : length_(signed_size(length)),
      n_heads_(config.n_heads),
      group_(config.n_heads / config.n_kv_heads),
      head_dim_(config.head_dim),
      cosines_(length_, head_dim_ / 2),
      sines_(length_, head_dim_ / 2) {
    for (Eigen::Index i = 0; i < head_dim_ / 2; ++i) {
        const double frequency = generate::rope_frequency(config, i);
        for (Eigen::Index position = 0; position < length_; ++position) {
            const double angle = static_cast<double>(position) * frequency;
            cosines_(position, i) = static_cast<T>(std::cos(angle));
            sines_(position, i) = static_cast<T>(std::sin(angle));
        }
    }
}

/// Turns the pairs (i, i + head_dim / 2) of each head by the angle of their position; back again for a direction of -1.
template <class T>
void Attention<T>::rotate(Rows<T> rows, T direction) const {
    const Eigen::Index half = head_dim_ / 2;
    for (Eigen::Index t = 0; t < rows.rows(); ++t) {
        const T* const cosine = cosines_.data() + t * half;
        const T* const sine = sines_.data() + t * half;
        for (Eigen::Index first = 0; first < rows.cols(); first += head_dim_) {
            T* const a = rows.data() + t * rows.outerStride() + first;
            T* const b = a + half;
            for (Eigen::Index i = 0; i < half; ++i) {
                const T turned_a = a[i] * cosine[i] - direction * b[i] * sine[i];
                const T turned_b = b[i] * cosine[i] + direction * a[i] * sine[i];
                a[i] = turned_a;
                b[i] = turned_b;
            }
        }
    }
}

template <class T>
void Attention<T>::forward(const AttentionWeights<T>& weights, std::size_t s, AttentionTape<T>& tape, Rows<T> y) const {
    const Eigen::Index row = signed_size(s) * length_;
    const auto x = tape.input.middleRows(row, length_);
    auto queries = tape.queries.middleRows(row, length_);
    auto keys = tape.keys.middleRows(row, length_);
    auto values = tape.values.middleRows(row, length_);
    auto mixed = tape.mixed.middleRows(row, length_);
    queries.noalias() = x * weights.query.transpose();
    keys.noalias() = x * weights.key.transpose();
    values.noalias() = x * weights.value.transpose();
    rotate(queries, T(1));
    rotate(keys, T(1));
    const T scale = T(1) / std::sqrt(static_cast<T>(head_dim_));
    for (Eigen::Index head = 0; head < n_heads_; ++head) {
        Matrix<T>& shares = tape.shares[unsigned_size(signed_size(s) * n_heads_ + head)];
        const Eigen::Index column = head / group_ * head_dim_;
        for (Eigen::Index first = 0; first < length_; first += block) {
            const Eigen::Index count = std::min(block, length_ - first);
            const Eigen::Index visible = first + count;
            auto scores = shares.block(first, 0, count, visible);
            scores.noalias() = queries.block(first, head * head_dim_, count, head_dim_) *
                               keys.block(0, column, visible, head_dim_).transpose();
            causal_softmax<T>(scores, first, scale);
            mixed.block(first, head * head_dim_, count, head_dim_).noalias() =
                scores * values.block(0, column, visible, head_dim_);
        }
    }
    y.noalias() += mixed * weights.output.transpose();
}

template <class T>
void Attention<T>::backward(const AttentionWeights<T>& weights, std::size_t s, const AttentionTape<T>& tape,
                            const ConstRows<T>& dy, AttentionGradients<T>& gradients, Rows<T> dx) const {
    const Eigen::Index row = signed_size(s) * length_;
    const auto queries = tape.queries.middleRows(row, length_);
    const auto keys = tape.keys.middleRows(row, length_);
    const auto values = tape.values.middleRows(row, length_);
    auto d_queries = gradients.queries.middleRows(row, length_);
    auto d_keys = gradients.keys.middleRows(row, length_);
    auto d_values = gradients.values.middleRows(row, length_);
    auto d_mixed = gradients.mixed.middleRows(row, length_);
    d_mixed.noalias() = dy * weights.output;
    d_keys.setZero();
    d_values.setZero();
    const T scale = T(1) / std::sqrt(static_cast<T>(head_dim_));
    for (Eigen::Index head = 0; head < n_heads_; ++head) {
        const Matrix<T>& shares = tape.shares[unsigned_size(signed_size(s) * n_heads_ + head)];
        const Eigen::Index column = head / group_ * head_dim_;
        for (Eigen::Index first = 0; first < length_; first += block) {
            const Eigen::Index count = std::min(block, length_ - first);
            const Eigen::Index visible = first + count;
            const auto part = shares.block(first, 0, count, visible);
            const auto d_part = d_mixed.block(first, head * head_dim_, count, head_dim_);
            auto d_scores = gradients.scores[s].block(0, 0, count, visible);
            d_scores.noalias() = d_part * values.block(0, column, visible, head_dim_).transpose();
            d_values.block(0, column, visible, head_dim_).noalias() += part.transpose() * d_part;
            softmax_backward<T>(part, scale, d_scores);
            d_queries.block(first, head * head_dim_, count, head_dim_).noalias() =
                d_scores * keys.block(0, column, visible, head_dim_);
            d_keys.block(0, column, visible, head_dim_).noalias() +=
                d_scores.transpose() * queries.block(first, head * head_dim_, count, head_dim_);
        }
    }
    rotate(d_queries, T(-1));
    rotate(d_keys, T(-1));
    dx.noalias() = d_queries * weights.query;
    dx.noalias() += d_keys * weights.key;
    dx.noalias() += d_values * weights.value;
}

template struct AttentionTape<float>;
template struct AttentionTape<double>;
template struct AttentionGradients<float>;
template struct AttentionGradients<double>;
template class Attention<float>;
template class Attention<double>;

}  // namespace trainer
