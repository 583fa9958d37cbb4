#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "../core/matrix_view.hpp"
#include "selection.hpp"

/// How a gate written for float serves a layer in double: with no memory but what the selection brings.
namespace moe::inline MOE_ABI::detail {

/// The memory of `count` floats at the start of somebody's doubles, uninitialised.
[[nodiscard]] inline float* floats_in(double* memory, std::size_t count) {
    auto* floats = reinterpret_cast<float*>(memory);
    std::uninitialized_default_construct_n(floats, count);
    return floats;
}

/// Turns `count` floats, stored from the start of `values` on, into doubles. Back to front, since value i is written
/// over floats 2i and 2i + 1. O(count).
inline void widen_in_place(double* values, std::size_t count) {
    const auto* floats = reinterpret_cast<const float*>(values);
    for (std::size_t i = count; i-- > 0;) {
        const float value = floats[i];
        std::construct_at(values + i, static_cast<double>(value));
    }
}

inline void round_to_floats(std::span<const double> values, float* floats) {
    std::transform(values.begin(), values.end(), floats, [](double value) { return static_cast<float>(value); });
}

/// One token: scratch of n doubles becomes the logits and a scratch of n floats (n is many times the number of logits),
/// weights start in the memory of the wide ones.
class NarrowToken {
public:
    NarrowToken(std::span<const double> logits, const BasicSelection<double>& out) {
        const std::size_t scratch = out.scratch.size();
        float* memory = floats_in(out.scratch.data(), logits.size() + scratch);
        round_to_floats(logits, memory);
        logits_ = {memory, logits.size()};
        selection_ = {out.experts,
                      {floats_in(out.weights.data(), out.weights.size()), out.weights.size()},
                      {memory + logits.size(), scratch},
                      out.order};
    }
    [[nodiscard]] std::span<const float> logits() const { return logits_; }
    [[nodiscard]] Selection selection() const { return selection_; }

private:
    std::span<const float> logits_;
    Selection selection_;
};

/// A batch: scratch of n doubles becomes the logits and a scratch of n floats (n is twice the number of logits and
/// more).
class NarrowBatch {
public:
    NarrowBatch(MatrixView<const double> logits, const BatchSelection<double>& out) {
        const std::size_t size = logits.rows() * logits.cols();
        const std::size_t scratch = out.scratch.size();
        float* memory = floats_in(out.scratch.data(), size + scratch);
        for (std::size_t t = 0; t < logits.rows(); ++t) {
            round_to_floats(logits.row_span(t), memory + t * logits.cols());
        }
        for (std::size_t t = 0; t < out.weights.rows(); ++t) {
            (void)floats_in(out.weights.row(t), out.weights.cols());
        }
        logits_ = view(static_cast<const float*>(memory), logits.rows(), logits.cols());
        selection_ = {out.n_experts,
                      out.experts,
                      view(reinterpret_cast<float*>(out.weights.data()), out.weights.rows(), out.weights.cols(),
                           2 * out.weights.stride()),
                      {memory + size, scratch},
                      out.order,
                      out.token_ids,
                      out.valid,
                      out.first_position,
                      out.positions};
    }
    [[nodiscard]] MatrixView<const float> logits() const { return logits_; }
    [[nodiscard]] BatchSelection<float> selection() const { return selection_; }

private:
    MatrixView<const float> logits_;
    BatchSelection<float> selection_;
};

}  // namespace moe::inline MOE_ABI::detail
