#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/index.hpp"
#include "../core/matrix_view.hpp"

namespace moe::inline MOE_ABI {

/// Values of scratch a token gate gets, for the larger of the number of experts and of logits: 4 parts for a gate, and
/// one for each adaptor around it, which takes the last part and hands the rest on.
inline constexpr std::size_t selection_parts = 8;

/// Where a TokenGate writes the experts of one token, and the scratch it may use. T is float or double, the type of the
/// logits.
template <class T>
struct BasicSelection {
    std::span<ExpertId> experts;  ///< (max_per_token) to be filled from the front
    std::span<T> weights;         ///< (max_per_token) the weight of each chosen expert
    std::span<T> scratch;         ///< (selection_parts * max(n_experts, n_logits)) uninitialised
    std::span<ExpertId> order;    ///< (n_experts) uninitialised
};
using Selection = BasicSelection<float>;

/// What a gate may know of a token beside its logits.
struct TokenContext {
    std::int32_t token_id = -1;  ///< id in the vocabulary, or -1 when the caller gave none
    std::uint64_t position = 0;  ///< number of the token: ForwardOptions::first_position plus its row, or of positions
};

/// Where a BatchGate writes the experts of all tokens. A row holds the experts of one token from the front; entries
/// left at `no_expert` are unused, those set to `dropped(e)` say that the token lost its place at expert e.
template <class T>
struct BatchSelection {
    std::size_t n_experts = 0;
    MatrixView<ExpertId> experts;             ///< (n_tokens, max_per_token) filled with no_expert
    MatrixView<T> weights;                    ///< (n_tokens, max_per_token)
    std::span<T> scratch;                     ///< (batch_scratch_size) uninitialised
    std::span<ExpertId> order;                ///< (batch_order_size) uninitialised
    std::span<const std::int32_t> token_ids;  ///< (n_tokens), or empty when the caller gave none
    std::span<const std::uint8_t> valid;      ///< (n_tokens) 0 for padding, which gets no experts; or empty: all valid
    std::uint64_t first_position = 0;         ///< TokenContext::position of row 0
    std::span<const std::uint64_t> positions{};  ///< (n_tokens) of each row, or empty: one after the other

    [[nodiscard]] bool is_valid(std::size_t t) const { return valid.empty() || valid[t] != 0; }
    [[nodiscard]] TokenContext context(std::size_t t) const {
        return {token_ids.empty() ? -1 : token_ids[t], positions.empty() ? first_position + t : positions[t]};
    }
};

/// Values of BatchSelection::scratch, `n` the larger of the number of experts and of logits: two matrices of the
/// batch, a few vectors over the tokens, and what a token gate needs. Throws Error(overflow).
[[nodiscard]] constexpr std::size_t batch_scratch_size(std::size_t n_tokens, std::size_t n) {
    return checked_add(checked_multiply(n_tokens, checked_add(checked_multiply(2, n), 4)),
                       checked_multiply(selection_parts, n));
}

/// Entries of BatchSelection::order: one an assignment, and a few vectors over tokens and experts. Throws
/// Error(overflow).
[[nodiscard]] constexpr std::size_t batch_order_size(std::size_t n_tokens, std::size_t n_experts,
                                                     std::size_t max_per_token) {
    return checked_add(checked_multiply(n_tokens, checked_add(max_per_token, 2)), checked_multiply(2, n_experts));
}

}  // namespace moe::inline MOE_ABI
