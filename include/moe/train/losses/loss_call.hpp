#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../parts/check_call.hpp"
#include "../parts/tape.hpp"

/// What all losses check and count before they write.
namespace moe::inline MOE_ABI::detail {

/// What gradients are multiplied with. Throws Error(state, range): a tape that is not recorded, a factor not finite.
template <class T>
[[nodiscard]] double confirm_loss(const char* name, const Tape<T>& tape, double coefficient, double scale) {
    detail::ensure_recorded(name, tape.recorded());
    ensure(std::isfinite(coefficient) && std::isfinite(scale) && std::isfinite(coefficient * scale), ErrorCode::range,
           name, ": the coefficient is ", coefficient, " and the scale ", scale,
           ", both and their product must be finite");
    return coefficient * scale;
}

/// Tokens that are no padding; those of `count` rows from `first` on.
template <class T>
[[nodiscard]] std::uint64_t n_valid(const Tape<T>& tape, std::size_t first, std::size_t count) {
    if (tape.valid().empty()) {
        return count;
    }
    const auto rows = tape.valid().subspan(first, count);
    return count - static_cast<std::size_t>(std::count(rows.begin(), rows.end(), std::uint8_t{0}));
}
template <class T>
[[nodiscard]] std::uint64_t n_valid(const Tape<T>& tape) {
    return n_valid(tape, 0, tape.x().rows());
}

/// Throws Error(missing, shape): a batch without logits, or with other than `per_expert` logits an expert.
template <class T>
void confirm_logits(const char* name, const Tape<T>& tape, std::size_t per_expert = 1) {
    if (tape.x().rows() == 0) {
        return;  // no tokens, no logits
    }
    ensure(tape.logits().rows() > 0, ErrorCode::missing, name,
           ": the tape has no logits: the plan was given, or the gate reads none");
    ensure(tape.logits().cols() == per_expert * tape.plan().n_experts, ErrorCode::shape, name, ": there are ",
           tape.logits().cols(), " logits for ", tape.plan().n_experts, " experts, this loss is of ", per_expert,
           " an expert");
}

/// Counts of a global batch, of which the tape has a part, or none. Throws Error(shape, range).
template <class T>
void confirm_global(const char* name, const Tape<T>& tape, std::span<const std::uint64_t> counts,
                    std::uint64_t n_tokens) {
    const bool counted = std::any_of(counts.begin(), counts.end(), [](std::uint64_t n) { return n > 0; });
    ensure(counts.empty() ? n_tokens == 0 : n_tokens > 0 || !counted, ErrorCode::range, name, ": ", counts.size(),
           " counts of ", n_tokens, " tokens: a global batch has both");
    ensure(counts.empty() || counts.size() == tape.plan().n_experts, ErrorCode::shape, name, ": ", counts.size(),
           " counts for ", tape.plan().n_experts, " experts");
    ensure(counts.empty() || n_tokens >= n_valid(tape), ErrorCode::range, name, ": the global batch has ", n_tokens,
           " tokens, this part of it ", n_valid(tape));
}

}  // namespace moe::inline MOE_ABI::detail
