#pragma once

#include <string>

#include "checkpoint.hpp"
#include "config.hpp"

namespace generate {

/// Keys and values of the tokens seen so far; the rows beyond them are not yet filled.
struct KeyValueCache {
    Matrix keys;    ///< (max_positions, n_kv_heads * head_dim)
    Matrix values;  ///< (max_positions, n_kv_heads * head_dim)
};

/// Causal attention with grouped queries (Ainslie et al. 2023) and rotary positions (Su et al. 2021), as Mixtral has
/// it.
class Attention {
public:
    Attention(const Weights& weights, const std::string& prefix, const Config& config);

    [[nodiscard]] KeyValueCache make_cache() const;

    /// Attention output of `x` (n, d_model), the tokens at positions [past, past + n); adds their keys and values to
    /// `cache`.
    [[nodiscard]] Matrix forward(const Matrix& x, Eigen::Index past, KeyValueCache& cache) const;

private:
    void rotate(Matrix& rows, Eigen::Index past) const;

    Eigen::Index n_heads_;
    Eigen::Index n_kv_heads_;
    Eigen::Index head_dim_;
    Matrix query_;
    Matrix key_;
    Matrix value_;
    Matrix output_;
    Matrix cosines_;  ///< (max_positions, head_dim / 2)
    Matrix sines_;    ///< (max_positions, head_dim / 2)
};

}  // namespace generate
