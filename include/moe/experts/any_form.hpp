#pragma once

#include <string_view>

#include "../core/error.hpp"
#include "form.hpp"

namespace moe::inline MOE_ABI {

/// The forms of the released models, by name.
enum class FormKind : unsigned char {
    swiglu,
    geglu,
    geglu_tanh,
    reglu,
    sigmoid_glu,
    relu,
    relu_squared,
    gelu,
    gelu_tanh,
    silu,
    identity,
    swiglu_oai,      ///< clamp A: SwiGLUOai
    clamped_before,  ///< clamp B: ClampedBefore<Silu>
    clamped_after,   ///< clamp C: ClampedAfter<Silu>
};

/// A form chosen at run time. It is resolved once a panel of outputs, so it costs nothing beside the product.
struct AnyForm {
    FormKind kind = FormKind::swiglu;
    double limit = 0.0;    ///< of the three clamped forms, which need one above 0
    double alpha = 1.702;  ///< of swiglu_oai

    [[nodiscard]] constexpr bool gated() const noexcept {
        return kind < FormKind::relu || kind >= FormKind::swiglu_oai;
    }
    [[nodiscard]] constexpr bool clamped() const noexcept { return kind >= FormKind::swiglu_oai; }

    /// Throws Error(range): a kind that is none, and whatever the form it names refuses.
    void validate() const;
};

/// Calls visitor(form) with the form `any` stands for.
template <class Visitor>
decltype(auto) visit_form(const AnyForm& any, Visitor&& visitor) {
    switch (any.kind) {
        case FormKind::swiglu: return visitor(Gated<Silu>{});
        case FormKind::geglu: return visitor(Gated<Gelu>{});
        case FormKind::geglu_tanh: return visitor(Gated<GeluTanh>{});
        case FormKind::reglu: return visitor(Gated<Relu>{});
        case FormKind::sigmoid_glu: return visitor(Gated<SigmoidActivation>{});
        case FormKind::relu: return visitor(Plain<Relu>{});
        case FormKind::relu_squared: return visitor(Plain<ReluSquared>{});
        case FormKind::gelu: return visitor(Plain<Gelu>{});
        case FormKind::gelu_tanh: return visitor(Plain<GeluTanh>{});
        case FormKind::silu: return visitor(Plain<Silu>{});
        case FormKind::identity: return visitor(Plain<IdentityActivation>{});
        case FormKind::swiglu_oai: return visitor(SwiGLUOai{.limit = any.limit, .alpha = any.alpha});
        case FormKind::clamped_before: return visitor(ClampedBefore<Silu>{.limit = any.limit});
        case FormKind::clamped_after: return visitor(ClampedAfter<Silu>{.limit = any.limit});
    }
    raise_error(ErrorCode::range, "AnyForm: kind ", static_cast<int>(any.kind), " is none of FormKind");
}

inline void AnyForm::validate() const {
    visit_form(*this, [](const auto& form) { moe::validate_form(form); });
}

/// A form, static or chosen at run time.
template <class F>
concept ExpertForm = StaticForm<F> || std::same_as<F, AnyForm>;

}  // namespace moe::inline MOE_ABI
