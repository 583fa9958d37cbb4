#pragma once

#include <cstddef>
#include <span>

#include "gate.hpp"

namespace moe::inline MOE_ABI {

/// Any gate by reference, as seen by a layer of T: what asks it is compiled once. The gate must outlive it. Members as
/// the functions of gate.hpp.
template <class T>
class GateRef {
public:
    /// None; nothing may be asked of it.
    GateRef() = default;

    template <Gate<T> G>
    explicit GateRef(const G& gate)
        : gate_(&gate),
          max_per_token_([](const void* self, std::size_t n_tokens, std::size_t n_experts) {
              return moe::gate_max_per_token(*static_cast<const G*>(self), n_tokens, n_experts);
          }),
          max_assignments_([](const void* self, std::size_t n_tokens, std::size_t n_experts) {
              return moe::gate_max_assignments(*static_cast<const G*>(self), n_tokens, n_experts);
          }),
          overlapped_([](const void* self, const ByteView& memory) {
              return moe::gate_overlapped(*static_cast<const G*>(self), memory);
          }) {
        if constexpr (TokenGate<G, T> || erases_gates<G>) {
            select_token_ = [](const void* self, std::span<const T> logits, TokenContext context,
                               BasicSelection<T> out) {
                return moe::select_token<T>(*static_cast<const G*>(self), logits, context, out);
            };
        }
        if constexpr (BatchGate<G, T> || erases_gates<G>) {
            is_batch_gate_ = moe::is_batch_gate(gate);
            select_batch_ = [](const void* self, MatrixView<const T> logits, BatchSelection<T> out) {
                moe::select_batch<T>(*static_cast<const G*>(self), logits, out);
            };
        }
    }

    [[nodiscard]] bool is_batch_gate() const noexcept { return is_batch_gate_; }
    [[nodiscard]] std::size_t max_per_token(std::size_t n_tokens, std::size_t n_experts) const {
        return max_per_token_(gate_, n_tokens, n_experts);
    }
    [[nodiscard]] std::size_t max_assignments(std::size_t n_tokens, std::size_t n_experts) const {
        return max_assignments_(gate_, n_tokens, n_experts);
    }
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return overlapped_(gate_, memory); }
    [[nodiscard]] std::size_t select_token(std::span<const T> logits, TokenContext context,
                                           const BasicSelection<T>& out) const {
        return select_token_(gate_, logits, context, out);
    }
    void select_batch(MatrixView<const T> logits, const BatchSelection<T>& out) const {
        select_batch_(gate_, logits, out);
    }

private:
    const void* gate_ = nullptr;
    bool is_batch_gate_ = false;
    std::size_t (*max_per_token_)(const void*, std::size_t, std::size_t) = nullptr;
    std::size_t (*max_assignments_)(const void*, std::size_t, std::size_t) = nullptr;
    const char* (*overlapped_)(const void*, const ByteView&) = nullptr;
    std::size_t (*select_token_)(const void*, std::span<const T>, TokenContext, BasicSelection<T>) = nullptr;
    void (*select_batch_)(const void*, MatrixView<const T>, BatchSelection<T>) = nullptr;
};

}  // namespace moe::inline MOE_ABI
