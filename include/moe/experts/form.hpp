#pragma once

#include <concepts>
#include <limits>
#include <type_traits>

#include "../core/error.hpp"
#include "activation.hpp"

namespace moe::inline MOE_ABI {

/// What an expert computes between its input and its output projections. A gated form combines two projections,
/// `form(gate, up)`; a plain form has one, `form(up)`. Forms work on scalars and on vectors, element by element.
/// Optional: `void validate() const`, called at set-up, reports settings that cannot be, with `moe::raise_error`.

namespace detail {

/// Of a clamp. Infinity clamps nothing.
inline void check_limit(const char* form, double limit) {
    ensure(limit > 0, ErrorCode::range, form, ": limit is ", limit, ", it must be above 0");
}

/// Infinite as a float, a slope would turn the gate value 0 into NaN.
inline void check_alpha(const char* form, double alpha) {
    ensure(alpha > 0 && alpha <= static_cast<double>((std::numeric_limits<float>::max)()), ErrorCode::range, form,
           ": alpha is ", alpha, ", it must be above 0 and finite in float");
}

}  // namespace detail

/// activation(gate) * up: SwiGLU, GeGLU, ReGLU and the sigmoid GLU (Shazeer 2020, "GLU variants improve transformer").
template <class Activation>
struct Gated {
    [[no_unique_address]] Activation activation{};

    [[nodiscard]] static constexpr bool gated() noexcept { return true; }
    template <class V>
    [[nodiscard]] V operator()(const V& gate, const V& up) const {
        return moe::activate(activation, gate) * up;
    }
};

/// activation(up): the feed-forward network of Vaswani et al. 2017 with another activation.
template <class Activation>
struct Plain {
    [[no_unique_address]] Activation activation{};

    [[nodiscard]] static constexpr bool gated() noexcept { return false; }
    template <class V>
    [[nodiscard]] V operator()(const V& up) const {
        return moe::activate(activation, up);
    }
};

/// (u + 1) * g * sigmoid(alpha * g) with g = min(gate, limit), u = clamp(up, -limit, limit): GPT-OSS, MiniMax-M3.
struct SwiGLUOai {
    double limit = 7.0;
    double alpha = 1.702;

    [[nodiscard]] static constexpr bool gated() noexcept { return true; }

    /// Throws Error(range): a limit that is not above 0, an alpha that is not above 0 and finite in float.
    void validate() const {
        detail::check_limit("SwiGLUOai", limit);
        detail::check_alpha("SwiGLUOai", alpha);
    }
    template <class V>
    [[nodiscard]] V operator()(const V& gate, const V& up) const noexcept {
        const V g = math::at_most(gate, limit);
        const V u = math::at_least(math::at_most(up, limit), -limit);
        return (u + math::constant<V>(1)) * g * math::sigmoid(V(math::constant<V>(alpha) * g));
    }
};

/// activation(min(gate, limit)) * clamp(up, -limit, limit), the clamp before the activation: DeepSeek-V4, GLM-5.3, Hy4.
template <class Activation = Silu>
struct ClampedBefore {
    double limit = 10.0;
    [[no_unique_address]] Activation activation{};

    [[nodiscard]] static constexpr bool gated() noexcept { return true; }

    /// Throws Error(range): a limit that is not above 0.
    void validate() const { detail::check_limit("ClampedBefore", limit); }

    template <class V>
    [[nodiscard]] V operator()(const V& gate, const V& up) const {
        return moe::activate(activation, math::at_most(gate, limit)) * math::at_least(math::at_most(up, limit), -limit);
    }
};

/// min(activation(gate), limit) * clamp(up, -limit, limit), the clamp after the activation: Step-3.7.
template <class Activation = Silu>
struct ClampedAfter {
    double limit = 7.0;
    [[no_unique_address]] Activation activation{};

    [[nodiscard]] static constexpr bool gated() noexcept { return true; }

    /// Throws Error(range): a limit that is not above 0.
    void validate() const { detail::check_limit("ClampedAfter", limit); }

    template <class V>
    [[nodiscard]] V operator()(const V& gate, const V& up) const {
        return math::at_most(moe::activate(activation, gate), limit) * math::at_least(math::at_most(up, limit), -limit);
    }
};

namespace detail {

template <class F>
consteval bool form_applies() {
    if constexpr (F::gated()) {
        return std::is_invocable_r_v<float, const F&, float, float>;
    } else {
        return std::is_invocable_r_v<float, const F&, float>;
    }
}

}  // namespace detail

/// Set-up check of a form: throws whatever its own `validate`, if it has one, refuses.
template <class Form>
void validate_form(const Form& form) {
    if constexpr (requires { form.validate(); }) {
        form.validate();
    } else {
        static_assert(
            !requires(Form & mine) { mine.validate(); },
            "the form's validate() changes the form: declare it `void validate() const`");
    }
}

/// A form whose shape (gated or plain) is known when compiling.
template <class F>
concept StaticForm = requires {
    typename std::bool_constant<F::gated()>;
    requires detail::form_applies<F>();
};

/// Calls visitor(form).
template <StaticForm Form, class Visitor>
decltype(auto) visit_form(const Form& form, Visitor&& visitor) {
    return visitor(form);
}

}  // namespace moe::inline MOE_ABI
