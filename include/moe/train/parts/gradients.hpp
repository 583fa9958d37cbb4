#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "../../core/matrix_view.hpp"
#include "mutable_stack.hpp"

namespace moe::inline MOE_ABI {

/// Where the gradients of the two matrices of a LoRA adapter are added, in the shapes of LoraPair.
template <class T>
struct LoraPairGradients {
    MutableStack<T> a{};  ///< (n_experts, rank, inputs)
    MutableStack<T> b{};  ///< (n_experts, outputs, rank)
};

/// The same of LoraAdapters. Gate and up may have one memory for a: that of an A they share, the rounding of whose sum
/// then depends on how a batch is cut into calls.
template <class T>
struct LoraGradients {
    LoraPairGradients<T> gate{};
    LoraPairGradients<T> up{};
    LoraPairGradients<T> down{};
};

/// Where the gradients of a bank of experts are added, in the shapes of ExpertWeights; what is empty is not computed.
template <class T>
struct ExpertGradients {
    MutableStack<T> gate{};       ///< (n_experts, d_ff, d_model)
    MutableStack<T> up{};         ///< (n_experts, d_ff, d_model)
    MutableStack<T> down{};       ///< (n_experts, d_model, d_ff)
    MutableStack<T> gate_bias{};  ///< (n_experts, d_ff, 1)
    MutableStack<T> up_bias{};    ///< (n_experts, d_ff, 1)
    MutableStack<T> down_bias{};  ///< (n_experts, d_model, 1)
    LoraGradients<T> lora{};      ///< of LoraExperts; of what is frozen the rest stays empty
};

/// Where the gradients of a layer are added, T the type it computes in; what is empty is not computed.
template <class T>
struct LayerGradients {
    MutableStack<T> router{};                  ///< (1, n_logits, d_router)
    std::span<T> router_bias{};                ///< (n_logits)
    MatrixView<T> router_input{};              ///< (n_tokens, d_router), where a call gave one of its own
    ExpertGradients<T> experts{};              ///< of the routed experts
    std::vector<ExpertGradients<T>> shared{};  ///< one a shared expert, or none
    MutableStack<T> shared_gate{};             ///< (1, n_shared, d_model)
    std::span<T> output_bias{};                ///< (d_model)
    MatrixView<T> constants{};                 ///< (n_constant, d_model)
    MatrixView<T> mixes{};                     ///< (2 n_constant, d_model)
};

}  // namespace moe::inline MOE_ABI
