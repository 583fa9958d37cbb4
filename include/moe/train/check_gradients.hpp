#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backward.hpp"
#include "differences.hpp"
#include "gradients_of.hpp"
#include "layer_copy.hpp"

namespace moe::inline MOE_ABI {

/// How check_gradients() looks.
struct GradientCheckOptions {
    double step = 0;  ///< of differences, times max(1, |value|); 0: the cube root of epsilon, of float for what goes
                      ///< through a gate that is written for float
    std::size_t samples = 16;          ///< coordinates of each group, all of a smaller one
    std::size_t directions = 4;        ///< random directions of each group: all its coordinates at once
    std::uint64_t seed = 1;            ///< of the loss, the directions and the coordinates
    ForwardOptions<double> forward{};  ///< of the call: padding, token ids, positions, a router's input of its own
};

namespace detail {

/// Whether a gate serves a layer in double by computing in float.
template <class G>
inline constexpr bool computes_in_float = !erases_gates<G> && !SelectsToken<G, double> && !SelectsBatch<G, double>;

template <class Layer>
[[nodiscard]] GradientCheck check_gradients(const Layer& layer, MatrixView<const double> x,
                                            const GradientCheckOptions& options) {
    using Gate = std::remove_cvref_t<decltype(layer.router().gate())>;
    const std::size_t n = x.rows();
    const std::size_t d = x.cols();
    ensure(n > 0 && d > 0, ErrorCode::shape, "check_gradients: x is ", n, " x ", d, ", there is nothing to check");
    ensure(options.step >= 0 && std::isfinite(options.step), ErrorCode::range, "check_gradients: step is ",
           options.step, ", it must be above 0, or 0 for one that fits");
    ensure(options.samples + options.directions > 0, ErrorCode::range,
           "check_gradients: 0 samples and 0 directions: there is nothing to compare");

    OwnedGradients<double> parameters = moe::gradients_of(layer);
    const auto copy = detail::copy_layer(layer, parameters.views());
    const auto rows = [](MatrixView<const double> matrix) {
        std::vector<double> values(matrix.rows() * matrix.cols());
        detail::copy_rows(matrix, view(values.data(), matrix.rows(), matrix.cols()));
        return values;
    };
    std::vector<double> input = rows(x);
    const MatrixView<const double> own = options.forward.router_input;
    std::vector<double> router_input = rows(own);
    ForwardOptions<double> call = options.forward;
    call.accumulate = false;
    call.router_input = view(std::as_const(router_input).data(), own.rows(), own.cols());

    Workspace workspace;
    const auto forward = [&](Tape<double>& tape, std::vector<double>& y) {
        y.resize(n * d);
        moe::forward(copy, view(std::as_const(input).data(), n, d), view(y.data(), n, d), tape, workspace,
                     SerialExecutor{}, call);
    };
    std::vector<double> loss(n * d);
    for (std::size_t i = 0; i < loss.size(); ++i) {
        loss[i] = 2 * random_open_uniform(options.seed, i) - 1;
    }
    Tape<double> base;
    std::vector<double> y;
    std::vector<double> dx(n * d);
    std::vector<double> d_router_input(router_input.size());
    OwnedGradients<double> gradients = moe::gradients_of(layer);
    LayerGradients<double> to = gradients.views();
    to.router_input = view(d_router_input.data(), own.rows(), own.cols());
    forward(base, y);
    moe::backward(copy, base, view(std::as_const(loss).data(), n, d), view(dx.data(), n, d), to, workspace);

    Differences differences(forward, loss, base, random_stream(options.seed, 1));
    GradientCheck result;
    const auto add = [&](ParameterGroup group, std::span<double> values, std::span<const double> of,
                         bool through_gate) {
        const bool narrow = through_gate && computes_in_float<Gate>;
        const double epsilon = narrow ? static_cast<double>(std::numeric_limits<float>::epsilon())
                                      : std::numeric_limits<double>::epsilon();
        result.groups.push_back(
            differences.compare({std::move(group), values, of, epsilon,
                                 options.step > 0 ? options.step : std::cbrt(epsilon), narrow ? 1e-3 : 1e-6},
                                options.samples, options.directions));
    };
    for (const ParameterGroup& group : parameters.groups()) {
        add(group, parameters.all().subspan(group.first, group.size()),
            std::as_const(gradients).all().subspan(group.first, group.size()), group.name.starts_with("router"));
    }
    add({"x", 0, 0, n, d}, input, dx, true);
    if (!router_input.empty()) {
        add({"router_input", 0, 0, own.rows(), own.cols()}, router_input, d_router_input, true);
    }
    return result;
}

}  // namespace detail

/// Holds the backward pass of a layer, with gates and activations of yours, against central differences of its forward
/// pass: the gradients of sum(y * c), c random, by every kind of parameters and by x (n_tokens, d_model), along random
/// directions and at sampled coordinates. The layer computes in double, over views; the check works on a copy of its
/// weights, in plain ExpertBanks of the same form. The error of a group is the greatest distance,
/// relative to the greatest gradient of its kind; 1e-6 is allowed, what rounding explains is never more, and 1e-3 where
/// a gate computes in float. Where the routing changes within a step,
/// it is halved, then skipped and counted. A gate in Detached is told to be wrong: gradients do not pass it, y does
/// depend on it.
///
///     const moe::GradientCheck check = moe::check_gradients(layer, moe::view(x.data(), n, d));
///     std::puts(check.text().c_str());
///
/// Throws Error as forward does, for an x without tokens (shape) and where the router is packed (state). Takes about
/// 2 (samples + directions) forward passes a group.
template <class Layer>
[[nodiscard]] GradientCheck check_gradients(const Layer& layer, std::type_identity_t<MatrixView<const double>> x,
                                            const GradientCheckOptions& options = {}) {
    constexpr bool in_double = std::same_as<typename Layer::value_type, double>;
    static_assert(in_double,
                  "check_gradients: the layer must compute in double: give it a copy of the weights in double");
    if constexpr (in_double) {
        return detail::check_gradients(layer, x, options);
    } else {
        return {};
    }
}

}  // namespace moe::inline MOE_ABI
