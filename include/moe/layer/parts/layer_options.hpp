#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../../core/alignment.hpp"
#include "../../core/borrowed.hpp"
#include "observer.hpp"
#include "residency.hpp"

namespace moe::inline MOE_ABI {

/// Where an expert's weight is applied. The two differ: experts are not linear.
enum class WeightAt : unsigned char {
    output,  ///< y += w * expert(x)
    input,   ///< y += expert(w * x) (Llama 4)
};

/// Experts without parameters, numbered behind the real ones in this order.
template <class T>
struct NullExperts {
    std::size_t n_zero = 0;           ///< add nothing (AdaMoE, MoE++)
    std::size_t n_identity = 0;       ///< add w * x (LongCat-Flash)
    MatrixView<const T> constants{};  ///< (n_constant, d_model): add w * constants[i]
    MatrixView<const T> mixes{};  ///< (2 n_constant, d_model) or empty: with rows 2i and 2i + 1 as W, constant expert
                                  ///< i adds w * (a1 x + a2 constants[i]), [a1, a2] = softmax(W x) (MoE++, 2410.07348)

    /// Throws Error(overflow).
    [[nodiscard]] std::size_t count() const { return checked_add(checked_add(n_zero, n_identity), constants.rows()); }
};

/// What a layer does beside its router and experts. Set once.
template <class T>
struct LayerOptions {
    WeightAt weight_at = WeightAt::output;
    double routed_scale = 1.0;        ///< multiplies the routed sum before shared experts are added
    Borrowed<const T> output_bias{};  ///< (d_model) or empty, added to every token (JetMoE)
    NullExperts<T> null_experts{};
    bool pass_unrouted = false;  ///< a token without experts, all of them dropped say, adds x; padding does not

    /// Set-up check for a layer of width `d_model`. Throws Error: a scale that is not finite in T, a weight_at that is
    /// none, an output bias or constants of another width or not aligned to T, mixes of another shape.
    void validate(std::size_t d_model) const {
        constexpr double most = (std::numeric_limits<T>::max)();
        ensure(weight_at <= WeightAt::input, ErrorCode::range, "MoELayer: weight_at has no value ",
               static_cast<int>(weight_at));
        ensure(routed_scale >= -most && routed_scale <= most, ErrorCode::range, "MoELayer: routed_scale is ",
               routed_scale, ", it must be finite in the type the layer computes in");
        ensure(output_bias.empty() || output_bias.size() == d_model, ErrorCode::shape, "MoELayer: the output bias has ",
               output_bias.size(), " values for d_model ", d_model);
        require_aligned(output_bias.data(), "MoELayer", "the output bias");
        const MatrixView<const T>& constants = null_experts.constants;
        ensure(constants.rows() == 0 || constants.cols() == d_model, ErrorCode::shape,
               "MoELayer: the constant experts have ", constants.cols(), " values for d_model ", d_model);
        require_aligned(constants.data(), "MoELayer", "the constants of null experts");
        const MatrixView<const T>& mixes = null_experts.mixes;
        ensure(mixes.rows() == 0 ||
                   (mixes.rows() / 2 == constants.rows() && mixes.rows() % 2 == 0 && mixes.cols() == d_model),
               ErrorCode::shape, "MoELayer: the mixes of constant experts are ", mixes.rows(), " x ", mixes.cols(),
               ", but ", constants.rows(), " constant experts of d_model ", d_model, " need two rows each");
        require_aligned(mixes.data(), "MoELayer", "the mixes of constant experts");
    }
};

/// What may change from call to call.
template <class T>
struct ForwardOptions {
    bool accumulate = false;                    ///< y += result instead of y = result
    MatrixView<const T> router_input{};         ///< (n_tokens, router inputs) when it differs from x, else empty
    Borrowed<const std::int32_t> token_ids{};   ///< (n_tokens) for gates that read them, else empty
    Borrowed<const std::uint8_t> valid{};       ///< (n_tokens) 0 for padding, which is not routed; or empty: all valid
    std::uint64_t first_position = 0;           ///< number of the first token, for gates that draw lots
    Borrowed<const std::uint64_t> positions{};  ///< (n_tokens) number of each token; or empty: first_position + row
    Observer<T>* observer = nullptr;
    Residency* residency = nullptr;  ///< of experts that need not be in memory
};

}  // namespace moe::inline MOE_ABI
