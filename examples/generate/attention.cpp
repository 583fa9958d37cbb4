#include "attention.hpp"

#include <cmath>

#include "rope.hpp"

namespace generate {

namespace {

/// Softmax of row t of `scores` over the positions it may see, [0, past + t]; 0 for those that come later.
void causal_softmax(Matrix& scores, Eigen::Index past) {
    for (Eigen::Index t = 0; t < scores.rows(); ++t) {
        const Eigen::Index visible = past + t + 1;
        auto seen = scores.row(t).head(visible).array();
        seen = (seen - seen.maxCoeff()).exp().eval();
        seen /= seen.sum();
        scores.row(t).tail(scores.cols() - visible).setZero();
    }
}

}  // namespace

Attention::Attention(const Weights& weights, const std::string& prefix, const Config& config)
    : n_heads_(config.n_heads),
      n_kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      query_(weights.matrix(prefix + "q_proj.weight", n_heads_ * head_dim_, config.d_model)),
      key_(weights.matrix(prefix + "k_proj.weight", n_kv_heads_ * head_dim_, config.d_model)),
      value_(weights.matrix(prefix + "v_proj.weight", n_kv_heads_ * head_dim_, config.d_model)),
      output_(weights.matrix(prefix + "o_proj.weight", config.d_model, n_heads_ * head_dim_)),
      cosines_(config.max_positions, head_dim_ / 2),
      sines_(config.max_positions, head_dim_ / 2) {
    for (Eigen::Index i = 0; i < head_dim_ / 2; ++i) {
        const double frequency = rope_frequency(config, i);
        for (Eigen::Index position = 0; position < config.max_positions; ++position) {
            const double angle = static_cast<double>(position) * frequency;
            cosines_(position, i) = static_cast<float>(std::cos(angle));
            sines_(position, i) = static_cast<float>(std::sin(angle));
        }
    }
}

KeyValueCache Attention::make_cache() const {
    const Eigen::Index width = n_kv_heads_ * head_dim_;
    return {Matrix(cosines_.rows(), width), Matrix(cosines_.rows(), width)};
}

/// Turns the pairs (i, i + head_dim / 2) of each head by an angle that grows with the position.
void Attention::rotate(Matrix& rows, Eigen::Index past) const {
    const Eigen::Index half = head_dim_ / 2;
    for (Eigen::Index t = 0; t < rows.rows(); ++t) {
        const auto cosine = cosines_.row(past + t).array();
        const auto sine = sines_.row(past + t).array();
        for (Eigen::Index first = 0; first < rows.cols(); first += head_dim_) {
            auto a = rows.row(t).segment(first, half).array();
            auto b = rows.row(t).segment(first + half, half).array();
            const Eigen::ArrayXXf old_a = a;
            a = a * cosine - b * sine;
            b = b * cosine + old_a * sine;
        }
    }
}

Matrix Attention::forward(const Matrix& x, Eigen::Index past, KeyValueCache& cache) const {
    const Eigen::Index n = x.rows();
    Matrix queries = x * query_.transpose();
    Matrix keys = x * key_.transpose();
    rotate(queries, past);
    rotate(keys, past);
    cache.keys.middleRows(past, n) = keys;
    cache.values.middleRows(past, n).noalias() = x * value_.transpose();

    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim_));
    const Eigen::Index group = n_heads_ / n_kv_heads_;
    Matrix mixed(n, n_heads_ * head_dim_);
    for (Eigen::Index head = 0; head < n_heads_; ++head) {
        const Eigen::Index column = head / group * head_dim_;
        const auto head_keys = cache.keys.block(0, column, past + n, head_dim_);
        const auto head_values = cache.values.block(0, column, past + n, head_dim_);
        Matrix scores = scale * queries.middleCols(head * head_dim_, head_dim_) * head_keys.transpose();
        causal_softmax(scores, past);
        mixed.middleCols(head * head_dim_, head_dim_).noalias() = scores * head_values;
    }
    return mixed * output_.transpose();
}

}  // namespace generate
