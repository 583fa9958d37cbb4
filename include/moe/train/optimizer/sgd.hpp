#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../../kernels/simd.hpp"
#include "elementwise.hpp"

namespace moe::inline MOE_ABI {

/// What Sgd reads and changes of a parameter: as AdamState.
template <class T>
struct SgdState {
    std::span<T> value;
    std::span<const T> gradient;
    std::span<T> velocity{};                  ///< zero before the first step; may be empty without momentum
    std::span<const std::uint64_t> tokens{};  ///< as in AdamState
};

namespace detail {

template <class T>
struct SgdFactors {
    T rate, momentum, decay;
    bool nesterov;
};

/// One vector; `velocity` may be null.
template <class T>
MOE_ALWAYS_INLINE void sgd_vector(const SgdFactors<T>& f, T* value, const T* gradient, T* velocity) noexcept {
    using V = Vector<T>;
    V d = multiply_add<T>(V(f.decay), load(value), load(gradient));
    if (velocity != nullptr) {
        const V v = multiply_add<T>(V(f.momentum), load(velocity), d);
        store(velocity, v);
        d = f.nesterov ? multiply_add<T>(V(f.momentum), v, d) : v;
    }
    store(value, multiply_add<T>(V(-f.rate), d, load(value)));
}

template <class T>
void sgd_elements(const SgdFactors<T>& f, T* value, const T* gradient, T* velocity, std::size_t n) noexcept {
    std::size_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
        sgd_vector(f, value + i, gradient + i, velocity == nullptr ? nullptr : velocity + i);
    }
    if (i < n) {
        std::array<T, lanes<T>> p{};
        std::array<T, lanes<T>> g{};
        std::array<T, lanes<T>> v{};
        std::copy(value + i, value + n, p.begin());
        std::copy(gradient + i, gradient + n, g.begin());
        if (velocity != nullptr) {
            std::copy(velocity + i, velocity + n, v.begin());
        }
        sgd_vector(f, p.data(), g.data(), velocity == nullptr ? nullptr : v.data());
        std::copy_n(p.begin(), n - i, value + i);
        if (velocity != nullptr) {
            std::copy_n(v.begin(), n - i, velocity + i);
        }
    }
}

}  // namespace detail

/// Stochastic gradient descent with momentum (Polyak 1964), Nesterov's if asked for (Sutskever et al. 2013, "On the
/// importance of initialization and momentum in deep learning"), as PyTorch's SGD without dampening. Decay is not
/// decoupled:
///
///     d <- g + decay * p;  v <- momentum * v + d;  p <- p - rate * (nesterov ? d + momentum * v : v)
struct Sgd {
    double rate = 1e-2;
    double momentum = 0;
    double decay = 0;
    bool nesterov = false;

    /// One step; bits, errors and complexity as AdamW::update.
    template <std::floating_point T, Executor E = SerialExecutor>
    void update(const SgdState<T>& state, const E& executor = {}) const {
        validate<T>();
        if (momentum == 0) {
            detail::check_update<T>("Sgd", {{"value", state.value}, {"gradient", state.gradient}}, state.tokens);
        } else {
            detail::check_update<T>(
                "Sgd", {{"value", state.value}, {"gradient", state.gradient}, {"velocity", state.velocity}},
                state.tokens);
        }
        const detail::SgdFactors<T> f{static_cast<T>(rate), static_cast<T>(momentum), static_cast<T>(decay), nesterov};
        detail::for_each_used_part(
            "Sgd", executor, state.value.size(), state.tokens, [&](std::size_t first, std::size_t count) {
                T* const velocity = momentum == 0 ? nullptr : state.velocity.data() + first;
                detail::sgd_elements(f, state.value.data() + first, state.gradient.data() + first, velocity, count);
            });
    }

    /// Throws Error(range, missing) unless all settings can be used in T.
    template <std::floating_point T>
    void validate() const {
        constexpr double largest = (std::numeric_limits<T>::max)();
        detail::check_setting("Sgd", "rate", rate, 0, largest);
        detail::check_setting("Sgd", "momentum", momentum, 0, std::nextafter(1.0, 0.0));
        detail::check_setting("Sgd", "decay", decay, 0, largest);
        ensure(!nesterov || momentum > 0, ErrorCode::missing, "Sgd: nesterov needs a momentum above 0");
    }
};

}  // namespace moe::inline MOE_ABI
