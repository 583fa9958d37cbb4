#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "../../core/alignment.hpp"
#include "../../core/error.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../selection.hpp"
#include "../weigh.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// A router on the sphere around another gate: X-MoE (Chi et al. 2022, "On the representation collapse of sparse
/// mixture of experts", 2204.09179) and the gate `cosine_top` of Tutel. The router projects the token to few values z =
/// P x (n_logits = the width of z), and the gate inside reads the logits
///
///     l_e = (z . c_e) / (|z| |c_e|) / max(temperature, min_temperature),    0 where a norm is 0
///
/// made in double for any type of layer; squares of elements must not overflow there. O(n_experts width) a token.
/// DynMoE is Cosine<Threshold<Sigmoid>>.
template <class G>
struct Cosine {
    static_assert(detail::AdaptableSomewhere<G>, "Cosine: the gate inside must be a moe::TokenGate.");

    G gate{};
    MatrixView<const float> centroids{};  ///< (n_experts, width)
    double temperature = 1;
    double min_temperature = 0.01;  ///< that of Tutel

    static constexpr bool needs_logits = detail::reads_logits<G>;

    /// Throws Error(shape) unless the centroids are as wide as the projection.
    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        ensure(std::cmp_equal(n_logits, centroids.cols()), ErrorCode::shape, "Cosine: the router makes ", n_logits,
               " values, the centroids have ", centroids.cols());
        return centroids.rows();
    }
    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        const char* const own = moe::overlapped(memory, {{"the centroids", bytes_of(centroids)}});
        return own != nullptr ? own : moe::gate_overlapped(gate, memory);
    }

    /// Throws Error(range, shape, alignment): no centroids or not one an expert, a gate inside that does not read one
    /// logit an expert, a temperature that cannot be; else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(!centroids.empty() && centroids.rows() == n_experts, ErrorCode::shape, "Cosine: centroids is ",
               centroids.rows(), " x ", centroids.cols(), ", it must have one row for each of the ", n_experts,
               " experts");
        require_aligned(centroids.data(), "Cosine", "centroids");
        ensure(std::isfinite(temperature), ErrorCode::range, "Cosine: temperature is ", temperature,
               ", it must be finite");
        // As small as float can still divide by: a cosine of 1 must not become infinite.
        ensure(std::isfinite(min_temperature) && min_temperature >= 1e-30, ErrorCode::range,
               "Cosine: min_temperature is ", min_temperature, ", it must be finite and at least 1e-30");
        const std::size_t read = moe::gate_n_experts(gate, n_experts);
        ensure(read == n_experts, ErrorCode::shape, "Cosine: the gate inside makes ", read, " experts of ", n_experts,
               " logits; it must read one logit an expert");
        detail::validate_inner("Cosine", gate, n_experts);
    }

    /// `logits` (width): the projection; or empty for a gate that reads none.
    template <std::floating_point T>
        requires detail::Adaptable<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::span<const T> inner = logits_for(logits, out);
        return static_cast<int>(moe::select_token<T>(gate, inner, context, out));
    }

    /// See WeighingGate.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const {
        const std::span<const T> inner = logits_for(logits, out);
        moe::weigh_experts<T>(gate, inner, experts, out);
    }

    /// See gate_parameters. Throws Error(missing) for a Cosine around another one.
    [[nodiscard]] GateParameters parameters() const {
        GateParameters all = moe::gate_parameters(gate);
        ensure(all.temperature == nullptr, ErrorCode::missing,
               "Cosine: the gate inside has centroids as well, which of the two are trained cannot be said");
        all.centroids = centroids;
        all.temperature = &temperature;
        return all;
    }

    /// See DifferentiableGate, gate_has_backward. To z = `logits`. With u and v_e for z and c_e of length 1 and t for
    /// the temperature,
    ///
    ///     dz = (du - u <u, du>) / |z| where du = sum dl_e v_e / t,  0 where a norm is 0
    ///
    /// and to chosen.gradients
    ///
    ///     dc_e = dl_e / t (u - v_e <u, v_e>) / |c_e|,  dt = - sum dl_e l_e / t, 0 where t is not above its minimum
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        if (logits.empty()) {
            return;
        }
        Chosen<T> rest = chosen;
        const std::size_t part = (std::max)(logits.size(), centroids.rows());
        const std::span<T> inner = detail::take_part(rest, part).first(centroids.rows());
        const std::span<T> d_inner = detail::take_part(rest, part).first(centroids.rows());
        make_logits<T>(logits, inner);
        std::fill(d_inner.begin(), d_inner.end(), T(0));
        moe::gate_backward<T>(gate, inner, rest, d_weights, d_inner);
        const double norm = std::sqrt(dot(logits, logits));
        if (norm == 0) {
            return;
        }
        if (chosen.gradients.wants_cosine()) {
            add_parameters<T>(logits, norm, d_inner, chosen.gradients);
        }
        const double tau = (std::max)(temperature, min_temperature);
        double along = 0;  // <u, du>
        for (std::size_t e = 0; e < inner.size(); ++e) {
            along += static_cast<double>(d_inner[e]) * static_cast<double>(inner[e]);
            const std::span<const float> centroid = centroids.row_span(e);
            const double length = std::sqrt(dot(centroid, centroid));
            d_inner[e] = length == 0 ? T(0) : static_cast<T>(static_cast<double>(d_inner[e]) / length / tau);
        }
        for (std::size_t i = 0; i < logits.size(); ++i) {
            double du = 0;
            for (std::size_t e = 0; e < d_inner.size(); ++e) {
                du += static_cast<double>(d_inner[e]) * static_cast<double>(centroids(e, i));
            }
            d_logits[i] += static_cast<T>((du - static_cast<double>(logits[i]) / norm * along) / norm);
        }
    }

private:
    template <class T>
    [[nodiscard]] std::span<const T> logits_for(std::span<const T> projection, BasicSelection<T>& out) const {
        if (projection.empty()) {
            return {};
        }
        const std::span<T> logits = detail::take_part(out, projection.size()).first(centroids.rows());
        make_logits<T>(projection, logits);
        return logits;
    }

    template <class T>
    void make_logits(std::span<const T> projection, std::span<T> logits) const {
        const double tau = (std::max)(temperature, min_temperature);
        const double norm = std::sqrt(dot(projection, projection));
        for (std::size_t e = 0; e < logits.size(); ++e) {
            const std::span<const float> centroid = centroids.row_span(e);
            const double norms = norm * std::sqrt(dot(centroid, centroid));
            logits[e] = norms == 0 ? T(0) : static_cast<T>(dot(projection, centroid) / norms / tau);
        }
    }

    /// Of one token, whose norm is not 0, from the gradients `dl` of the logits of the gate inside.
    template <class T>
    void add_parameters(std::span<const T> projection, double norm, std::span<const T> dl,
                        const GateGradientsRef& to) const {
        const double tau = (std::max)(temperature, min_temperature);
        double sum = 0;  // <dl, cosines>
        for (std::size_t e = 0; e < dl.size(); ++e) {
            const std::span<const float> centroid = centroids.row_span(e);
            const double length = std::sqrt(dot(centroid, centroid));
            if (length == 0) {
                continue;
            }
            const auto d = static_cast<double>(dl[e]);
            const double cosine = dot(projection, centroid) / norm / length;
            sum += d * cosine;
            for (std::size_t i = 0; i < centroid.size(); ++i) {
                const double across =
                    static_cast<double>(projection[i]) / norm - static_cast<double>(centroid[i]) / length * cosine;
                to.add_centroid(e, i, d / tau * across / length);
            }
        }
        if (temperature > min_temperature) {
            to.add_temperature(-sum / tau / tau);
        }
    }

    template <class A, class B>
    [[nodiscard]] static double dot(std::span<const A> a, std::span<const B> b) {
        double sum = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
        }
        return sum;
    }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<Cosine<G>> = false;

}  // namespace moe::inline MOE_ABI
