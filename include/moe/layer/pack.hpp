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

/// Whether experts that compute in T can be packed as F.
template <class T, class F>
inline constexpr bool packs = false;
template <class T, PackedFormat F>
inline constexpr bool packs<T, F> = std::is_same_v<T, typename PackedPanel<F>::value_type>;

/// See pack below.
template <class F, class R, class Experts, class Shared, Executor E>
[[nodiscard]] auto packed_layer(const MoELayer<R, Experts, Shared>& layer, const E& executor, Compute compute) {
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

}  // namespace detail

/// The same layer with its router and all its experts packed into panels, on the workers of `executor`: equal bits in
/// the format of its weights, `pack(layer)`; smaller and faster in another, `pack<moe::Int8>(layer, executor,
/// moe::Compute::int8)`. The weights of the experts are copied and need not outlive it.
template <class F = detail::Same, class R, class Experts, class Shared, Executor E = SerialExecutor>
[[nodiscard]] auto pack(const MoELayer<R, Experts, Shared>& layer, const E& executor = {},
                        Compute compute = Compute::by_format) {
    constexpr bool is_format = std::is_same_v<F, detail::Same> || PackedFormat<F>;
    constexpr bool fits = !PackedFormat<F> || detail::packs<typename Experts::value_type, F>;
    static_assert(is_format,
                  "pack: the format is one of float, double, moe::bfloat16, moe::float16, moe::Int8 and moe::Int4.");
    static_assert(fits, "pack: experts in double are packed as double, moe::pack(layer), and others not.");
    if constexpr (is_format && fits) {
        return detail::packed_layer<F>(layer, executor, compute);
    } else {
        return layer;
    }
}
template <class F = detail::Same, class R, class Experts, class Shared, class E>
    requires(!Executor<E> && std::is_class_v<E>)
[[nodiscard]] auto pack(const MoELayer<R, Experts, Shared>& layer, const E&, Compute compute = Compute::by_format) {
    detail::diagnose_executor<E>();
    return moe::pack<F>(layer, SerialExecutor{}, compute);
}

}  // namespace moe::inline MOE_ABI
