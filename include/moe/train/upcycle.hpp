#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/overlap.hpp"
#include "../core/random.hpp"
#include "../experts/expert_bank.hpp"
#include "../experts/weight_stack.hpp"
#include "parts/gradients.hpp"

/// The first weights of a mixture, out of a network that has been trained: a dense feed-forward network becomes experts
/// (sparse upcycling, Komatsuzaki et al. 2022, 2212.05055; with slices, He et al. 2024, "Upcycling large language
/// models into mixture of experts", 2410.07524), or the experts there are become more. What is written takes the stacks
/// that gradients are added to, in any storage order; sources may be in 16 bits.
namespace moe::inline MOE_ABI {

/// How a dense network becomes g n experts: its hidden values are cut into g slices, each of which is copied n times.
/// Expert c g + s is copy c of slice s. The g slices of a copy have equal rows in the router, so that they tie and a
/// top_k that is a multiple of g takes whole copies. Then each slice has a g-th of the weights of a token, whatever the
/// router says, and the down projections times down_scale() make of the mixture
///
///     the dense network, to rounding              where the weights of a token sum to 1
///     (n g / K) (sum of the weights) times it     where they are a softmax over all experts, not normalised:
///                                                 the dense network itself while all logits are equal
struct Upcycling {
    std::size_t granularity = 1;     ///< g
    std::size_t expansion = 1;       ///< n
    std::size_t top_k = 1;           ///< K, of the gate
    bool normalized = true;          ///< the weights of a token sum to 1
    double router_deviation = 0.02;  ///< of the normal values that the rows of the router start with
    std::uint64_t seed = 0;          ///< of these

    /// Throws Error(overflow).
    [[nodiscard]] std::size_t n_experts() const { return checked_multiply(granularity, expansion); }

    /// g, or n g^2 / K without normalisation (2410.07524). Here for the down projections alone, in which the
    /// experts are linear whatever their form; the paper spreads it over the matrices of an expert.
    [[nodiscard]] double down_scale() const {
        const auto g = static_cast<double>(granularity);
        return normalized ? g : g * g * static_cast<double>(expansion) / static_cast<double>(top_k);
    }

    /// Throws Error(range): no slices or copies, a top_k that is not a multiple of g in g..g n, a deviation negative or
    /// not finite.
    void validate() const {
        ensure(granularity > 0 && expansion > 0, ErrorCode::range, "Upcycling: ", granularity, " slices, ", expansion,
               " copies of each; both must be at least 1");
        ensure(top_k > 0 && top_k <= n_experts() && top_k % granularity == 0, ErrorCode::range, "Upcycling: top_k is ",
               top_k, ", it must be a multiple of the ", granularity, " slices, at most ", n_experts());
        ensure(router_deviation >= 0 && std::isfinite(router_deviation), ErrorCode::range,
               "Upcycling: router_deviation is ", router_deviation, ", it must be finite and not negative");
    }
};

namespace detail {

/// Where a matrix is written, from its first element to its last.
template <class T>
[[nodiscard]] ByteView bytes_of_matrix(const MutableStack<T>& stack, std::size_t e) {
    const auto matrix = stack.matrix(e);
    const std::size_t extent =
        (stack.outputs() - 1) * matrix.output_stride + (stack.inputs() - 1) * matrix.input_stride + 1;
    return bytes_of(std::span<const T>(matrix.data, extent));
}

/// A stack that is written from another one, which `reads(bytes)` names where they overlap.
template <class T, class Reads>
void check_upcycled(const char* name, bool given, const MutableStack<T>& to, std::size_t n, std::size_t outputs,
                    std::size_t inputs, const Reads& reads) {
    ensure(given != to.empty(), ErrorCode::missing, "upcycle: ", name,
           given ? " has nowhere to go" : " is to be written, but there is none to begin with");
    if (to.empty()) {
        return;
    }
    ensure(to.n_experts() == n && to.outputs() == outputs && to.inputs() == inputs, ErrorCode::shape, "upcycle: ", name,
           " is ", to.n_experts(), " x ", to.outputs(), " x ", to.inputs(), ", it must be ", n, " x ", outputs, " x ",
           inputs);
    for (std::size_t e = 0; e < n; ++e) {
        refuse_overlap("upcycle", name, reads(detail::bytes_of_matrix(to, e)));
    }
}

/// All stacks of n experts of d_ff hidden values, written from `from`.
template <class W, class T, class Reads>
void check_upcycled(const ExpertWeights<W>& from, const ExpertGradients<T>& to, std::size_t n, std::size_t d_ff,
                    const Reads& reads) {
    const std::size_t d_model = from.up.inputs();
    const auto confirm = [&](const char* name, const WeightStack<W>& source, const MutableStack<T>& target,
                             std::size_t outputs, std::size_t inputs) {
        detail::check_upcycled(name, !source.empty(), target, n, outputs, inputs, reads);
    };
    confirm("gate", from.gate, to.gate, d_ff, d_model);
    confirm("up", from.up, to.up, d_ff, d_model);
    confirm("down", from.down, to.down, d_model, d_ff);
    confirm("gate bias", from.gate_bias, to.gate_bias, d_ff, 1);
    confirm("up bias", from.up_bias, to.up_bias, d_ff, 1);
    confirm("down bias", from.down_bias, to.down_bias, d_model, 1);
}

/// Part of a matrix of the source, beginning at an output and an input, to the whole of matrix `e` of the target.
template <class W, class T>
void copy_part(const WeightStack<W>& from, std::size_t source, std::size_t first_output, std::size_t first_input,
               double scale, const MutableStack<T>& to, std::size_t e) {
    if (from.empty()) {
        return;
    }
    const WeightBlock<W> block = from.block(source, first_output, to.outputs());
    const auto target = to.matrix(e);
    for (std::size_t o = 0; o < to.outputs(); ++o) {
        for (std::size_t i = 0; i < to.inputs(); ++i) {
            const auto value = static_cast<double>(
                load_element(block.data + o * block.output_stride + (first_input + i) * block.input_stride));
            target.data[o * target.output_stride + i * target.input_stride] = static_cast<T>(scale * value);
        }
    }
}

}  // namespace detail

/// Writes the experts and the router (1, g n, d_router) that `how` makes of a dense network: matrices of one expert,
/// `dense`, in what a bank takes. `experts` are (g n, d_ff / g, d_model) and (g n, d_model, d_ff / g), with the biases
/// that the dense network has; that of the down projection is kept, scaled so that it counts once. Row c of what the
/// router starts with has the normal values of the stream c of the seed, and stands there g times. Throws Error before
/// anything is written: what `how` and ExpertBank refuse, a dense network of several experts, a d_ff that g does not
/// divide, targets of another shape (shape), missing or with no source (missing), on what is read (layout). O(values
/// written).
template <WeightElement W, std::floating_point T>
void upcycle(const ExpertWeights<W>& dense, const Upcycling& how, const ExpertGradients<T>& experts,
             const MutableStack<T>& router) {
    how.validate();
    const auto layout = detail::check_weights(!dense.gate.empty(), dense);
    const std::size_t g = how.granularity;
    const std::size_t n = how.n_experts();
    ensure(dense.up.n_experts() == 1, ErrorCode::shape, "upcycle: the dense network has ", dense.up.n_experts(),
           " experts, it must be one; upcycle_experts makes more of several");
    ensure(layout.d_ff % g == 0, ErrorCode::shape, "upcycle: ", layout.d_ff, " hidden values cannot be cut into ", g,
           " slices");
    const std::size_t d_ff = layout.d_ff / g;
    const auto reads = [&](const ByteView& memory) { return detail::overlapped_weights(dense, memory); };
    detail::check_upcycled(dense, experts, n, d_ff, reads);
    detail::check_upcycled("the router", true, router, 1, n, router.inputs(), reads);

    const double scale = how.down_scale();
    const auto rows = router.matrix(0);
    for (std::size_t e = 0; e < n; ++e) {
        const std::size_t first = e % g * d_ff;
        detail::copy_part(dense.gate, 0, first, 0, 1, experts.gate, e);
        detail::copy_part(dense.up, 0, first, 0, 1, experts.up, e);
        detail::copy_part(dense.down, 0, 0, first, scale, experts.down, e);
        detail::copy_part(dense.gate_bias, 0, first, 0, 1, experts.gate_bias, e);
        detail::copy_part(dense.up_bias, 0, first, 0, 1, experts.up_bias, e);
        detail::copy_part(dense.down_bias, 0, 0, 0, scale / static_cast<double>(g), experts.down_bias, e);
        const std::uint64_t stream = random_stream(how.seed, e / g);
        for (std::size_t i = 0; i < router.inputs(); ++i) {
            rows.data[e * rows.output_stride + i * rows.input_stride] =
                static_cast<T>(how.router_deviation * random_normal(stream, i));
        }
    }
}

/// How experts become more of them.
struct ExpertCopies {
    std::size_t copies = 2;          ///< of each expert, m; copy c of expert e is expert e m + c
    double router_deviation = 0.01;  ///< of the normal noise on the router rows of all copies but the first
    std::uint64_t seed = 0;

    /// Throws Error(range): no copies, a deviation negative or not finite.
    void validate() const {
        ensure(copies > 0, ErrorCode::range, "ExpertCopies: copies is ", copies, ", it must be at least 1");
        ensure(router_deviation >= 0 && std::isfinite(router_deviation), ErrorCode::range,
               "ExpertCopies: router_deviation is ", router_deviation, ", it must be finite and not negative");
    }
};

/// Expert upcycling (Dwivedi et al. 2026, 2604.19835): writes m copies of each of E experts, and of its row of the
/// `router` (1, E, d_router), with noise that tells them apart; row e m + c has that of its stream of the seed.
/// Commonly top_k stays, so that a token costs what it cost; it then goes to copies of fewer experts than before. With
/// m top_k and no noise the output is that of before, for softmax weights, normalised or not; so it is with one
/// normalised expert a token. Throws Error before anything is written, as upcycle does. O(values written).
template <WeightElement W, std::floating_point T>
void upcycle_experts(const ExpertWeights<W>& from, const WeightStack<W>& from_router, const ExpertCopies& how,
                     const ExpertGradients<T>& experts, const MutableStack<T>& router) {
    how.validate();
    const auto layout = detail::check_weights(!from.gate.empty(), from);
    const std::size_t n = checked_multiply(from.up.n_experts(), how.copies);
    ensure(from_router.n_experts() == 1 && from_router.outputs() == from.up.n_experts(), ErrorCode::shape,
           "upcycle: the router is ", from_router.n_experts(), " x ", from_router.outputs(), " x ",
           from_router.inputs(), ", it must be 1 x ", from.up.n_experts(), ", the number of experts, x its inputs");
    const auto reads = [&](const ByteView& memory) {
        return from_router.overlaps(memory) ? "the router there is" : detail::overlapped_weights(from, memory);
    };
    detail::check_upcycled(from, experts, n, layout.d_ff, reads);
    detail::check_upcycled("the router", true, router, 1, n, from_router.inputs(), reads);

    const WeightBlock<W> old = from_router.block(0, 0, from_router.outputs());
    const auto rows = router.matrix(0);
    for (std::size_t e = 0; e < n; ++e) {
        const std::size_t source = e / how.copies;
        detail::copy_part(from.gate, source, 0, 0, 1, experts.gate, e);
        detail::copy_part(from.up, source, 0, 0, 1, experts.up, e);
        detail::copy_part(from.down, source, 0, 0, 1, experts.down, e);
        detail::copy_part(from.gate_bias, source, 0, 0, 1, experts.gate_bias, e);
        detail::copy_part(from.up_bias, source, 0, 0, 1, experts.up_bias, e);
        detail::copy_part(from.down_bias, source, 0, 0, 1, experts.down_bias, e);
        const std::uint64_t stream = random_stream(how.seed, e);
        for (std::size_t i = 0; i < router.inputs(); ++i) {
            const double noise = e % how.copies == 0 ? 0 : how.router_deviation * random_normal(stream, i);
            const auto value =
                static_cast<double>(load_element(old.data + source * old.output_stride + i * old.input_stride));
            rows.data[e * rows.output_stride + i * rows.input_stride] = static_cast<T>(value + noise);
        }
    }
}

}  // namespace moe::inline MOE_ABI
