#pragma once

#include <algorithm>
#include <initializer_list>
#include <span>

#include "../../core/overlap.hpp"
#include "gradients.hpp"

/// Whether gradients are to be added where something is read.
namespace moe::inline MOE_ABI {

template <class T>
[[nodiscard]] bool overlaps(const LoraPairGradients<T>& to, const ByteView& memory) {
    return to.a.overlaps(memory) || to.b.overlaps(memory);
}

template <class T>
[[nodiscard]] bool overlaps(const ExpertGradients<T>& to, const ByteView& memory) {
    return to.gate.overlaps(memory) || to.up.overlaps(memory) || to.down.overlaps(memory) ||
           to.gate_bias.overlaps(memory) || to.up_bias.overlaps(memory) || to.down_bias.overlaps(memory) ||
           overlaps(to.lora.gate, memory) || overlaps(to.lora.up, memory) || overlaps(to.lora.down, memory);
}

template <class T>
[[nodiscard]] bool overlaps(const LayerGradients<T>& to, const ByteView& memory) {
    return to.router.overlaps(memory) || to.shared_gate.overlaps(memory) || overlaps(to.experts, memory) ||
           std::any_of(to.shared.begin(), to.shared.end(),
                       [&](const ExpertGradients<T>& shared) { return overlaps(shared, memory); }) ||
           overlapped(memory, {{"", bytes_of(to.router_bias)},
                               {"", bytes_of(to.router_input)},
                               {"", bytes_of(to.output_bias)},
                               {"", bytes_of(to.constants)},
                               {"", bytes_of(to.mixes)}}) != nullptr;
}

/// Throws Error(layout) where the gradients of `what` are to be added to one of `parts`.
template <class Gradients>
void refuse_gradient_overlap(const char* what, const Gradients& to, std::initializer_list<NamedBytes> parts) {
    for (const NamedBytes& part : parts) {
        refuse_overlap("backward: gradients", what, overlaps(to, part.bytes) ? part.name : nullptr);
    }
}

}  // namespace moe::inline MOE_ABI
