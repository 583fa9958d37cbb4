#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "../experts/packed_experts.hpp"
#include "moe_layer.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// `Same` where pack() was asked for no format: the storage type of the experts.
struct Same;
template <class F, class Experts>
using FormatOr = std::conditional_t<std::is_same_v<F, Same>, typename Experts::element_type, F>;

}  // namespace detail

/// The same layer with its router and all its experts packed into panels, on the workers of `executor`: equal bits in
/// the format of its weights, `pack(layer)`; smaller and faster in another, `pack<moe::Int8>(layer, executor,
/// moe::Compute::int8)`. The weights of the experts are copied and need not outlive it.
template <class F = detail::Same, class R, class Experts, class Shared, Executor E = SerialExecutor>
[[nodiscard]] auto pack(const MoELayer<R, Experts, Shared>& layer, const E& executor = {},
                        Compute compute = Compute::exact) {
    using Routed = PackedExperts<detail::FormatOr<F, Experts>, typename Experts::form_type>;
    using AlwaysBank = typename Shared::bank_type;
    using Always = PackedExperts<detail::FormatOr<F, AlwaysBank>, typename AlwaysBank::form_type>;
    using PackedShared = SharedExperts<Always, typename Shared::element_type>;
    std::vector<Always> shared;
    for (const auto& expert : layer.shared().experts()) {
        shared.emplace_back(expert, executor, compute);
    }
    return MoELayer<R, Routed, PackedShared>(
        layer.router().packed(executor), Routed(layer.experts(), executor, compute),
        shared.empty() ? PackedShared{}
                       : PackedShared(std::move(shared), layer.shared().mode(), layer.shared().gate().packed(executor)),
        layer.options());
}

}  // namespace moe::inline MOE_ABI
