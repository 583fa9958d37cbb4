#pragma once

#include <cstddef>
#include <utility>

#include "layer_calls.hpp"

namespace moe::inline MOE_ABI::detail {

/// A bank of no experts, for a layer that only routes.
template <class T>
struct NoExperts {
    using value_type = T;
    using element_type = T;
    using form_type = Plain<Relu>;

    [[nodiscard]] static std::size_t n_experts() noexcept { return 0; }
    [[nodiscard]] static PanelLayout<T> layout() noexcept { return {}; }
    [[nodiscard]] static form_type form() noexcept { return {}; }
    [[nodiscard]] static ActivationFormat<T> activations() noexcept { return {}; }
    static void multiply_hidden(std::size_t, PanelRange, RowPointers, const PanelScratch<T>&) noexcept {}
    static void multiply_output(std::size_t, PanelRange, RowPointers, const PanelScratch<T>&) noexcept {}
    static void hidden_bias(std::size_t, std::size_t, T*) noexcept {}
    static void output_bias(std::size_t, std::size_t, T*) noexcept {}
};

/// The phases logits, gating and plan of a layer, for somebody else's experts: prepare_route() and workspace_bytes()
/// are what it is for.
template <class RouterType>
class RouteOnly : public LayerCalls<RouteOnly<RouterType>, typename RouterType::value_type> {
public:
    using value_type = typename RouterType::value_type;
    using router_type = RouterType;
    using experts_type = NoExperts<value_type>;
    using shared_type = SharedExperts<experts_type>;
    static constexpr bool routes_only = true;  ///< tells LayerCalls that there are no experts to refer to

    /// `owner` is the class that errors name.
    RouteOnly(const char* owner, RouterType router) : owner_(owner), router_(std::move(router)) {}

    [[nodiscard]] const char* owner() const noexcept { return owner_; }
    [[nodiscard]] const RouterType& router() const noexcept { return router_; }
    [[nodiscard]] const experts_type& experts() const noexcept { return experts_; }
    [[nodiscard]] const shared_type& shared() const noexcept { return shared_; }
    [[nodiscard]] const LayerOptions<value_type>& options() const noexcept { return options_; }

private:
    const char* owner_;
    RouterType router_;
    experts_type experts_;
    shared_type shared_;
    LayerOptions<value_type> options_;
};

}  // namespace moe::inline MOE_ABI::detail
