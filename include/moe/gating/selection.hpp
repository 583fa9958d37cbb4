#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/index.hpp"
#include "../core/matrix_view.hpp"

namespace moe::inline MOE_ABI {

/// Where a TokenGate writes the experts of one token, and the scratch it may use. T is float or double, the type of the
/// logits.
template <class T>
struct BasicSelection {
    std::span<ExpertId> experts;  ///< (max_per_token) to be filled from the front
    std::span<T> weights;         ///< (max_per_token) the weight of each chosen expert
    std::span<T> scratch;         ///< (4 * n_experts) uninitialised
    std::span<ExpertId> order;    ///< (n_experts) uninitialised
};
using Selection = BasicSelection<float>;

/// What a gate may know of a token beside its logits.
struct TokenContext {
    std::int32_t token_id = -1;  ///< id in the vocabulary, or -1 when the caller gave none
};

/// Where a BatchGate writes the experts of all tokens. A row holds the experts of one token from the front; entries
/// left at `no_expert` are unused.
template <class T>
struct BatchSelection {
    MatrixView<ExpertId> experts;             ///< (n_tokens, max_per_token) filled with no_expert
    MatrixView<T> weights;                    ///< (n_tokens, max_per_token)
    std::span<T> scratch;                     ///< (n_tokens * n_experts + 4 * n_experts) uninitialised
    std::span<ExpertId> order;                ///< (n_tokens + n_experts) uninitialised
    std::span<const std::int32_t> token_ids;  ///< (n_tokens), or empty when the caller gave none
};

}  // namespace moe::inline MOE_ABI
